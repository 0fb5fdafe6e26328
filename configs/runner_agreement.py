"""Checks that what the job's runner is to read and write is where its workers can reach it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from configs.cloud import DataflowRunner

if TYPE_CHECKING:
    from configs.job import Job

_ON_WORKERS = "Dataflow's workers do not see this machine's files"


def runner_problems(job: "Job") -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """What Dataflow's workers could not find."""
    if not isinstance(job.runner, DataflowRunner):
        return
    if not job.workspace.startswith("gs://"):
        yield ("workspace",), job.workspace, f"expected gs://bucket/folder beside runner: dataflow; {_ON_WORKERS}"
    split = getattr(job, "split", None)
    sources = {("source",): getattr(job, "source", None), ("split", "eval"): getattr(split, "eval", None)}
    for path, source in sources.items():
        for pattern in getattr(source, "files", ()):
            if not pattern.startswith("gs://"):
                yield (*path, "files"), pattern, f"expected gs:// files beside runner: dataflow; {_ON_WORKERS}"
    saved_model = getattr(job.model, "saved_model", None) if hasattr(job, "model") else None
    if saved_model is not None and not saved_model.startswith("gs://"):
        yield ("model", "saved_model"), saved_model, f"expected gs:// beside runner: dataflow; {_ON_WORKERS}"
