"""Training as a custom job on Vertex AI. The trainer is the laptop's; it reads and writes the run directory itself."""

import contextlib
from collections.abc import Sequence
from typing import Any

from beam_jobs.night import Night
from beam_jobs.vertex.custom_jobs import custom_job
from beam_jobs.vertex.jobs import VertexJob, VertexJobs
from beam_jobs.vertex.names import display_name
from beam_jobs.vertex.service import VertexService
from beam_jobs.vertex.staging import stage_package
from beam_jobs.vertex.waiting import run_jobs
from beam_jobs.workspace import storage
from configs.errors import ForetableError
from configs.training import VertexTraining
from configs.vertex import duration_seconds

STEP = "train"
RESULT, MODEL = "trainer.json", "model/saved_model.pb"
LONGEST_QUEUE_SECONDS = 86_400.0
"""That a job may wait for machines and quota, before its own timeout begins."""


def train_on_vertex(night: Night, training: VertexTraining, examples: str) -> dict[str, Any]:
    """Trains the night's model as a custom job, or takes what the job of an earlier try trained.

    Args:
        examples: digest of the marker of the examples that are trained on.

    Returns:
        Body of the trainer's `done` event.

    Raises:
        ForetableError: the job failed, was cancelled, or left no model.
    """
    jobs = VertexJobs(VertexService.of(night.job), "custom")
    result = night.run.file(RESULT)
    message = custom_job(
        night,
        training,
        STEP,
        display_name(night, STEP, version=examples),
        ["--job", night.run.file("job.json"), "--run-dir", night.run.path, "--result", result],
        stage_package(night.job) if training.python_package is not None else None,
    )
    epochs_done = 0

    def count(running: Sequence[VertexJob]) -> None:
        nonlocal epochs_done
        if running[0].state == "RUNNING":
            with contextlib.suppress(ForetableError):  # a look that fails is no reason to leave the job
                epochs_done = max(epochs_done, epochs_saved(night))

    with night.console.progress(STEP, "epochs", training.epochs, lambda: epochs_done):
        (job,) = run_jobs(
            jobs,
            [message],
            night,
            STEP,
            progress=count,
            timeout_seconds=duration_seconds(training.timeout) + LONGEST_QUEUE_SECONDS,
            has_output=lambda _: _result(night, examples) is not None,
        )
    done = _result(night, examples)
    if done is None:
        raise ForetableError(
            f"{STEP}: custom job {job.display_name} is done, but {result} or {MODEL} beside it is not there;"
            f" run again; see {job.console_url}"
        )
    return done


def epochs_saved(night: Night) -> int:
    """The epochs that the training has finished, by its checkpoints: each is there from its `state.json` on."""
    states = storage.list_files(night.run.file("checkpoints"), "epoch-*/state.json")
    return max((int(path.split("/")[-2].removeprefix("epoch-")) for path in states), default=0)


def _result(night: Night, examples: str) -> dict[str, Any] | None:
    """What the trainer left, if it was trained on these examples and its model is there."""
    if not (storage.exists(night.run.file(RESULT)) and storage.exists(night.run.file(MODEL))):
        return None
    result = dict(storage.read_json(night.run.file(RESULT)))
    return result if result.pop("examples") == examples else None
