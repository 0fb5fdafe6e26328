"""Runs Beam pipelines where the job's `runner` says, and gives a failure back as the one line that it was.

Here, that is Beam's FnApiRunner, by name: its `DirectRunner` first tries to download a Prism binary, without any limit.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.night import Night
from beam_jobs.workspace import storage
from configs import errors
from configs.cloud import DataflowRunner
from transforms.json_files import WriteJson

_OUR_ERRORS = {name: getattr(errors, name) for name in ("ForetableError", "JobError", "RefusedError", "MissError")}
_RAISED = re.compile(rf"^(?:configs\.errors\.)?({'|'.join(_OUR_ERRORS)}): (.+?)(?: \[while running .*)?$", re.MULTILINE)
_OS_ERROR = re.compile(r"\[Errno (\d+)\]")
_STEP = re.compile(r" \[while running .*\]$")  # what Beam appends to an error's own message


@dataclasses.dataclass(frozen=True)
class Step:
    """One pipeline of a stage.

    Attributes:
        name: unique in a night, lower-case letters.
        transform: from a pipeline's root to the elements that `output` lists.
        output: path of the JSON file of those elements, which is written last: a remote runner hands nothing else back.
        version: what decides the output beside the run, such as the model's version.
        holds: whether what `output` lists is there as listed, for this version; asked once `output` is there.
        clear: takes away what an earlier try left; called before a pipeline starts, and not where one still runs.
    """

    name: str
    transform: beam.PTransform
    output: str
    version: str = ""
    holds: Callable[[], bool] = lambda: True
    clear: Callable[[], None] = lambda: None

    @property
    def is_finished(self) -> bool:
        """Whether its output is there, and holds."""
        return storage.exists(self.output) and self.holds()

    def define(self, root: beam.Pipeline) -> object:
        """Builds the pipeline."""
        return root | self.transform | "WriteOutput" >> WriteJson(self.output)


def run_step(step: Step, night: Night) -> None:
    """Runs a step on the job's runner, to its end.

    Raises:
        ForetableError: as `run_pipeline`; or the remote job failed.
        OSError: as `run_pipeline`.
    """
    runner = night.job.runner
    if isinstance(runner, DataflowRunner):
        from beam_jobs.dataflow.runner import run_on_dataflow

        return run_on_dataflow(step, night, runner)
    step.clear()
    return run_here(step.define, night)


def run_here(define: Callable[[beam.Pipeline], object], night: Night) -> None:
    """Runs a pipeline in this process, whatever the job's runner; as `run_pipeline`."""
    # What follows a bare `--` is for the job's runner, which this one is not where the job names another.
    run_pipeline(define, () if isinstance(night.job.runner, DataflowRunner) else night.beam_options)


def run_pipeline(define: Callable[[beam.Pipeline], object], beam_options: Sequence[str] = ()) -> None:
    """Runs the pipeline that `define` builds in this process, to its end.

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
        raised = our_error(str(error))
        if raised is not None:
            raise raised from error
        refused = _OS_ERROR.findall(str(error))
        if refused:
            raise OSError(int(refused[-1]), os.strerror(int(refused[-1]))) from error
        raise


def our_error(text: str) -> errors.ForetableError | None:
    """The error of ours that a worker's traceback ends in, if it is one."""
    raised = _RAISED.findall(text)
    if not raised:
        return None
    name, message = raised[-1]
    error: errors.ForetableError = _OUR_ERRORS[name](message)
    return error
