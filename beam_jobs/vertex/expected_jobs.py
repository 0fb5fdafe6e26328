"""What a night would submit to Vertex AI, on which machines, for how many hours: known without asking the cloud."""

import dataclasses
from collections.abc import Collection
from typing import Any

from beam_jobs import lineage
from beam_jobs.night import Night
from beam_jobs.vertex.sizing import BatchSizing, resize
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import read_marker
from configs.job import Job
from configs.modeling import Model
from configs.precomputing import VertexBatchPrecompute
from configs.training import VertexTraining
from configs.vertex import Accelerator, duration_seconds

TRAINING_STARTUP_MINUTES = (2, 15)
"""Until the trainer runs: machines, the image, and the package where it is installed."""
TRAINED_ROWS_A_SECOND = (200_000, 10_000)
"""Rows of an epoch, where no earlier night of the job has trained: for a small network on a few cores."""
SLOWDOWN = 3
"""How many times slower than here a machine may train."""
BATCH_SLOWDOWN = 5
"""How many times longer than the signature alone a batch may take there, with JSON, HTTP and another processor."""
_EVAL_EPOCH_SHARE = 1.25


@dataclasses.dataclass(frozen=True)
class ExpectedJobs:
    """The jobs of one stage.

    Attributes:
        step: of the stage, as in the jobs' names.
        kind: `custom job` or `batch prediction job`.
        machines: of all jobs together.
        machine_hours: that are billed, at least and at most; None where nobody knows yet.
        basis: where they come from.
    """

    step: str
    kind: str
    jobs: int
    machines: int
    machine_type: str
    accelerator: Accelerator | None
    spot: bool
    machine_hours: tuple[float, float] | None
    basis: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        accelerator = self.accelerator.model_dump() if self.accelerator is not None else None
        return dataclasses.asdict(self) | {"accelerator": accelerator}


def vertex_stages(job: Job) -> tuple[str, ...]:
    """Stages of a job whose work is done on Vertex AI."""
    trains = isinstance(job.model, Model) and isinstance(job.model.training, VertexTraining)
    predicts = isinstance(job.precompute, VertexBatchPrecompute)
    return (*(("train",) if trains else ()), *(("precompute",) if predicts else ()))


def expected_jobs(night: Night, stages: Collection[str], example_rows: int | None) -> list[ExpectedJobs]:
    """Jobs that a night submits.

    Args:
        stages: of `vertex_stages`, those that are going to run there.
        example_rows: that are read, or None if nobody knows.
    """
    found, job = [], night.job
    if "train" in stages and isinstance(job.model, Model) and isinstance(job.model.training, VertexTraining):
        found.append(_training_job(night, job.model.training, example_rows))
    if "precompute" in stages and isinstance(job.precompute, VertexBatchPrecompute):
        found.append(_prediction_jobs(night, job.precompute))
    return found


def _last_sizing(night: Night, precompute: VertexBatchPrecompute) -> BatchSizing | None:
    """The sizing of tonight's plan, or of the last one, for the settings of now."""
    tonight = night.run.file("plan.json")
    paths = [tonight] if storage.exists(tonight) else storage.list_files(night.run.job_folder, "*/*/plan.json")[-1:]
    for path in paths:
        measured = read_marker(path).get("batch_prediction")
        if measured is not None:
            return resize(measured, precompute)
    return None


def _training_job(night: Night, training: VertexTraining, example_rows: int | None) -> ExpectedJobs:
    seconds, basis = _training_seconds(night, training, example_rows)
    hours = None
    if seconds is not None:
        limit = duration_seconds(training.timeout) / 3600
        starts = [training.replica_count * minutes / 60 for minutes in TRAINING_STARTUP_MINUTES]
        # Replicas share the work at best, and at worst each takes as long as one alone.
        low, high = seconds[0] / 3600, training.replica_count * seconds[1] / 3600
        hours = starts[0] + low, starts[1] + min(high, training.replica_count * limit)
    return ExpectedJobs(
        step="train",
        kind="custom job",
        jobs=1,
        machines=training.replica_count,
        machine_type=training.machine_type,
        accelerator=training.accelerator,
        spot=training.spot,
        machine_hours=hours,
        basis=basis,
    )


def _training_seconds(
    night: Night, training: VertexTraining, example_rows: int | None
) -> tuple[tuple[float, float] | None, str]:
    """How long the trainer runs on one machine, at least and at most, and how that is known."""
    last = lineage.last_blessed_model(night.run.job_folder)
    if last is not None:
        seconds = float(read_marker(storage.join(last.run_path, "training.json"))["seconds"])
        return (0.0, SLOWDOWN * seconds), f"the training of {last.run_date} took {seconds:.0f} s"
    if example_rows is None:
        return None, "nobody knows how many examples there are"
    rows = example_rows * training.epochs * _EVAL_EPOCH_SHARE
    fast, slow = TRAINED_ROWS_A_SECOND
    # Early stopping may end it after a few epochs.
    least = rows / training.epochs * min(training.epochs, training.early_stopping_patience + 1) / fast
    return (least, rows / slow), f"{training.epochs} epochs of {example_rows:,} rows, none trained yet"


def _prediction_jobs(night: Night, precompute: VertexBatchPrecompute) -> ExpectedJobs:
    sizing = _last_sizing(night, precompute)
    jobs, machines = precompute.jobs, precompute.jobs * precompute.starting_replica_count
    hours, basis = None, "no plan has measured a batch of this size yet"
    if sizing is not None:
        jobs, chosen = sizing.jobs, sizing.choices[0]
        machines = chosen.replicas
        work = chosen.replicas * chosen.minutes / 60
        hours = chosen.machine_hours[0], chosen.machine_hours[1] + (BATCH_SLOWDOWN - 1) * work
        basis = f"{sizing.instances:,} instances, {sizing.batch_seconds * 1000:.3g} ms a batch of {sizing.batch_size:,}"
    return ExpectedJobs(
        step="precompute",
        kind="batch prediction job",
        jobs=jobs,
        machines=machines,
        machine_type=precompute.machine_type,
        accelerator=precompute.accelerator,
        spot=False,
        machine_hours=hours,
        basis=basis,
    )
