"""Runs a Beam pipeline on the job's runner, and gives its failure back as the one line that it was.

`--runner=FnApiRunner` by name: Beam's `DirectRunner` first tries to download a Prism binary, without a time limit.
"""

import os
import re
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from configs import errors

_OUR_ERRORS = {name: getattr(errors, name) for name in ("ForetableError", "JobError", "RefusedError", "MissError")}
_RAISED = re.compile(rf"^(?:configs\.errors\.)?({'|'.join(_OUR_ERRORS)}): (.+?)(?: \[while running .*)?$", re.MULTILINE)
_OS_ERROR = re.compile(r"\[Errno (\d+)\]")
_STEP = re.compile(r" \[while running .*\]$")  # what Beam appends to an error's own message


def run_pipeline(define: Callable[[beam.Pipeline], object], beam_options: Sequence[str] = ()) -> None:
    """Runs the pipeline that `define` builds, to its end.

    Raises:
        ForetableError: a worker raised one. The runner may hand over no more than a worker's traceback as text, so the
            error is read from there.
        OSError: the operating system refused a worker something.
    """
    options = PipelineOptions(["--runner=FnApiRunner", *beam_options])
    pipeline = beam.Pipeline(options=options)
    try:
        define(pipeline)
        pipeline.run().wait_until_finish()
    except errors.ForetableError as error:
        raise type(error)(_STEP.sub("", str(error))) from error
    except Exception as error:
        raised = _RAISED.findall(str(error))
        if raised:
            name, message = raised[-1]
            raise _OUR_ERRORS[name](message) from error
        refused = _OS_ERROR.findall(str(error))
        if refused:
            raise OSError(int(refused[-1]), os.strerror(int(refused[-1]))) from error
        raise
