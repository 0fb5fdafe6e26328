"""Checks that what Vertex AI is to do for a job has all that it takes elsewhere in the job file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from configs.cloud import BigQueryWarehouse
from configs.precomputing import VertexBatchPrecompute
from configs.training import VertexTraining

if TYPE_CHECKING:
    from configs.job import Job


def vertex_problems(job: "Job") -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """What Vertex could not reach, or where it would have to be."""
    training, precompute = getattr(job.model, "training", None), job.precompute
    on_vertex: dict[tuple[str, ...], str] = {}
    if isinstance(training, VertexTraining):
        on_vertex["model", "training", "on"] = training.on
        yield from _training_problems(job, training)
    if isinstance(precompute, VertexBatchPrecompute):
        on_vertex["precompute", "on"] = precompute.on
        has_dataset = precompute.dataset is not None or isinstance(job.warehouse, BigQueryWarehouse)
        if precompute.instances_format == "bigquery" and not has_dataset:
            expected = "expected precompute.dataset, or a bigquery warehouse, for the tables"
            yield ("precompute", "instances_format"), "bigquery", expected
    if job.vertex is None:
        for path, value in on_vertex.items():
            yield path, value, "expected vertex: {project: …, region: …} in the job file beside it"
    if (on_vertex or job.vertex is not None) and not job.workspace.startswith("gs://"):
        expected = "expected gs://bucket/folder beside vertex, which reads models and instances there"
        yield ("workspace",), job.workspace, expected


def _training_problems(job: "Job", training: VertexTraining) -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    build_model = getattr(job.model, "build_model", None)
    if build_model is not None and training.python_package is not None:
        expected = "expected none beside training.python_package, which has this project only; use training.container"
        yield ("model", "build_model"), build_model, expected
    account = training.service_account or (job.vertex.service_account if job.vertex is not None else None)
    if training.tensorboard is not None and account is None:
        expected = "expected training.service_account, or vertex.service_account, that may write there"
        yield ("model", "training", "tensorboard"), training.tensorboard, expected
