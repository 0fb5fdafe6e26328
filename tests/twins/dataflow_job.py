"""Runs one job of the Dataflow twin: `dataflow_job.py PIPELINE_URL COPY [PACKAGE_URL...]`; ends with 0 if it is done."""

import pathlib
import sys

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner

WORKER = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"


def main(url: str, copy: str, packages: list[str]) -> None:
    """Fetches the graph, gives it a worker on this machine, and runs it to its end."""
    missing = [package for package in packages if not FileSystems.exists(package)]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: named in the job and not staged")
    with FileSystems.open(url) as file:
        staged = file.read()
    pathlib.Path(copy).write_bytes(staged)
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged)
    for environment in pipeline.components.environments.values():
        environment.urn = python_urns.SUBPROCESS_SDK
        environment.payload = WORKER.encode()
        del environment.dependencies[:]
    fn_runner.FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()


if __name__ == "__main__":
    # The folder of this file holds the other twins, and no worker is to find them.
    sys.path = [path for path in sys.path if pathlib.Path(path) != pathlib.Path(__file__).parent]
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
