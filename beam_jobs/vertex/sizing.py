"""How many replicas batch prediction wants and how long it takes: Google's formula, with a batch time measured here.

`replicas = N / (T * (60 / Tb))`, rounded up: N batches in the job (1,000,000 instances in batches of 100 are 10,000),
T minutes that it is to take, Tb seconds that a replica takes for one batch. Under "Choose machine type and replica
count" in https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from configs.precomputing import VertexBatchPrecompute

DEFAULT_BATCH_SIZE = 64
"""Vertex's own, where a job names none (`manual_batch_tuning_parameters.batch_size`)."""
STARTUP_MINUTES, ACCELERATED_STARTUP_MINUTES = (5, 10), (10, 15)
"""Until a replica predicts, which is billed: "approximately 5 minutes", 10 with accelerators; longer is common."""
LEAST_MINUTES, LEAST_ACCELERATED_MINUTES = 10, 20
"""What the documentation advises a job to run at least, so that most of what is billed is work."""
_OTHER_CHOICES = (2, 4, 10)


@dataclasses.dataclass(frozen=True)
class ReplicaChoice:
    """A number of replicas and what comes of it.

    Attributes:
        replicas: of all jobs together.
        minutes: of predicting, after the start.
        machine_hours: that are billed, at least and at most, as start-up takes.
    """

    replicas: int
    minutes: float
    machine_hours: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class BatchSizing:
    """The size of a job's batch prediction.

    Attributes:
        instances: that are sent: of distinct points, where the model shows which are alike.
        batches: of all jobs together.
        batch_seconds: that one batch took on this machine.
        choices: the configured number of replicas first, then a few more.
        advised_replicas: the most that still have `LEAST_MINUTES` of work each.
    """

    instances: int
    jobs: int
    machine_type: str
    batch_size: int
    batches: int
    batch_seconds: float
    startup_minutes: tuple[int, int]
    choices: tuple[ReplicaChoice, ...]
    advised_replicas: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)


def replicas_for(batches: int, minutes: float, batch_seconds: float) -> int:
    """Replicas that predict this many batches in so many minutes: Google's formula, rounded up."""
    return max(1, math.ceil(batches / (minutes * (60 / batch_seconds)) - 1e-9))


def minutes_for(batches: int, replicas: int, batch_seconds: float) -> float:
    """Minutes that so many replicas take: the formula turned round, for shares of whole batches."""
    return math.ceil(batches / replicas) * batch_seconds / 60


def size_batches(instances: int, batch_seconds: float, precompute: VertexBatchPrecompute) -> BatchSizing:
    """Sizes batch prediction of this many instances.

    Args:
        batch_seconds: measured at `precompute.batch_size`.
    """
    jobs = min(precompute.jobs, max(instances, 1))
    batches = jobs * math.ceil(math.ceil(instances / jobs) / precompute.batch_size)
    accelerated = precompute.accelerator is not None
    startup = ACCELERATED_STARTUP_MINUTES if accelerated else STARTUP_MINUTES
    least = LEAST_ACCELERATED_MINUTES if accelerated else LEAST_MINUTES
    advised = max(1, math.floor(batches * batch_seconds / 60 / least))
    configured = jobs * precompute.starting_replica_count
    others = sorted({advised, *(configured * times for times in _OTHER_CHOICES)} - {configured})
    choices = tuple(_choice(batches, replicas, batch_seconds, startup) for replicas in [configured, *others])
    sizing = BatchSizing(
        instances=instances,
        jobs=jobs,
        machine_type=precompute.machine_type,
        batch_size=precompute.batch_size,
        batches=batches,
        batch_seconds=batch_seconds,
        startup_minutes=startup,
        choices=choices,
        advised_replicas=advised,
        warnings=(),
    )
    return dataclasses.replace(sizing, warnings=tuple(_warnings(sizing, precompute, least)))


def resize(measured: Mapping[str, Any], precompute: VertexBatchPrecompute) -> BatchSizing | None:
    """The sizing for the settings of now, from one that was stored; None if its batch time is of another batch size."""
    if measured["batch_size"] != precompute.batch_size:
        return None
    return size_batches(measured["instances"], measured["batch_seconds"], precompute)


def _choice(batches: int, replicas: int, batch_seconds: float, startup: tuple[int, int]) -> ReplicaChoice:
    minutes = minutes_for(batches, replicas, batch_seconds)
    least, most = (replicas * (start + minutes) / 60 for start in startup)
    return ReplicaChoice(replicas, round(minutes, 6), (round(least, 4), round(most, 4)))


def _warnings(sizing: BatchSizing, precompute: VertexBatchPrecompute, least_minutes: int) -> list[str]:
    """What the documentation warns of."""
    low, high = sizing.startup_minutes
    minutes, replicas = sizing.choices[0].minutes, sizing.choices[0].replicas
    each = f"a replica takes {low} to {high} minutes to start, which are billed as well"
    warnings = [
        f"{each}: {replicas} of them {replicas * low} to {replicas * high} minutes in all",
        "the replicas that a job starts with are those that it has to the end (precompute.starting_replica_count):"
        " Vertex ignores max_replica_count, and does not scale batch prediction",
    ]
    if minutes < least_minutes and replicas > sizing.advised_replicas:
        warnings.append(
            f"{replicas} replicas have {minutes:.2g} minutes of work each: Google advises {least_minutes} minutes at"
            f" least, so {sizing.advised_replicas} of them here"
        )
    if precompute.batch_size <= DEFAULT_BATCH_SIZE:
        warnings.append(
            f"precompute.batch_size: {precompute.batch_size}: batches as small as Vertex's default"
            f" ({DEFAULT_BATCH_SIZE}) are slow: most of the time goes into calls; 512 to 4,096 is usual"
        )
    return warnings
