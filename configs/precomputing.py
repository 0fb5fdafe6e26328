"""What computes the predictions of the input space: the pipeline itself, or batch prediction on Vertex AI."""

from typing import Annotated, ClassVar, Literal

import pydantic

from configs.base import Node
from configs.cloud import Labels
from configs.vertex import Accelerator, Duration

_SHARD_BLOCKS = pydantic.Field(default=16, ge=1)


class PipelinePrecompute(Node):
    """Predictions are computed in a Beam pipeline, with the SavedModel.

    Attributes:
        shard_blocks: blocks of 65,536 points in one Parquet file.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset()

    on: Literal["pipeline"] = "pipeline"
    shard_blocks: int = _SHARD_BLOCKS


class VertexBatchPrecompute(Node):
    """Predictions are computed by batch prediction jobs on Vertex AI, with the registered model.

    Attributes:
        shard_blocks: blocks of 65,536 points in one Parquet file.
        instances_format: what instances and predictions lie in: files in the workspace, or tables in BigQuery.
        dataset: `project.dataset` of those tables; by default the warehouse's.
        machine_type: of each replica.
        starting_replica_count: machines of a job, from its start to its end.
        batch_size: instances of one call of the model. Vertex's own default, 64, is slow.
        jobs: that the instances are divided among, at most.
        timeout: after which a job that does not end is given up and cancelled.
        service_account: by default that of the job's `vertex`, as are `labels`.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset(
        {
            "instances_format",
            "dataset",
            "machine_type",
            "accelerator",
            "starting_replica_count",
            "batch_size",
            "jobs",
            "timeout",
            "service_account",
            "labels",
        }
    )
    """Settings that do not decide what is computed."""

    on: Literal["vertex_batch"]
    shard_blocks: int = _SHARD_BLOCKS
    instances_format: Literal["jsonl", "bigquery"] = "jsonl"
    dataset: str | None = pydantic.Field(default=None, pattern=r"^[a-z0-9:.-]+\.[A-Za-z0-9_]{1,1024}$")
    machine_type: str = "n1-standard-4"
    accelerator: Accelerator | None = None
    starting_replica_count: int = pydantic.Field(default=1, ge=1)
    batch_size: int = pydantic.Field(default=1024, ge=1)
    jobs: int = pydantic.Field(default=1, ge=1)
    timeout: Duration = "24h"
    service_account: str | None = None
    labels: Labels = pydantic.Field(default_factory=dict)


def _tag(value: object) -> str:
    on = value.get("on", "pipeline") if isinstance(value, dict) else getattr(value, "on", "pipeline")
    return f"{on} precompute"


Precompute = Annotated[
    Annotated[PipelinePrecompute, pydantic.Tag("pipeline precompute")]
    | Annotated[VertexBatchPrecompute, pydantic.Tag("vertex_batch precompute")],
    pydantic.Discriminator(_tag),
]
