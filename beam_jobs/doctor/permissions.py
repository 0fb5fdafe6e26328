"""The permissions that a job needs: by the service that asks for them, by the project that pays, by bucket."""

import dataclasses
import re
from collections.abc import Iterator

from beam_jobs.workspace.cloud_storage import SCHEME, split_path
from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.job import ForeignJob, Job
from configs.modeling import Model
from configs.precomputing import VertexBatchPrecompute
from configs.sources import BigQuerySource, Source
from configs.training import VertexTraining
from configs.vertex import Vertex

STORAGE = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
STORAGE_READING = ("storage.objects.get", "storage.objects.list")
DATAFLOW = (
    "dataflow.jobs.cancel",
    "dataflow.jobs.create",
    "dataflow.jobs.get",
    "dataflow.jobs.list",
    "dataflow.messages.list",
)
PUBLISHING = (
    "bigquery.datasets.get",
    "bigquery.jobs.create",
    "bigquery.tables.create",
    "bigquery.tables.delete",
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.list",
    "bigquery.tables.update",
    "bigquery.tables.updateData",
)
READING = (
    "bigquery.jobs.create",
    "bigquery.readsessions.create",
    "bigquery.readsessions.getData",
    "bigquery.tables.get",
    "bigquery.tables.getData",
)
_SESSIONS = ("bigquery.readsessions.create", "bigquery.readsessions.getData")
VERTEX = (
    "aiplatform.endpoints.list",
    "aiplatform.modelEvaluations.import",
    "aiplatform.modelEvaluations.list",
    "aiplatform.models.get",
    "aiplatform.models.list",
    "aiplatform.models.update",
    "aiplatform.models.upload",
)
"""Of the Model Registry, and of looking for what is left deployed."""
VERTEX_TRAINING = tuple(f"aiplatform.customJobs.{verb}" for verb in ("cancel", "create", "get", "list"))
VERTEX_PREDICTION = tuple(f"aiplatform.batchPredictionJobs.{verb}" for verb in ("cancel", "create", "get", "list"))
LOGGING = ("logging.logEntries.list",)
ROLES = {
    "BigQuery": "roles/bigquery.jobUser, roles/bigquery.readSessionUser",
    "Dataflow": "roles/dataflow.developer",
    "Vertex AI": "roles/aiplatform.user",
    "Cloud Logging": "roles/logging.viewer",
}
"""Predefined roles that have a service's permissions."""
ON_SOURCES = ("bigquery.tables.get", "bigquery.tables.getData")
"""Of `READING`, what is asked of the tables themselves; the rest is asked of the project that pays."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket that the job names.

    Attributes:
        setting: of the job file that names it first.
        path: there.
        permissions: that are needed on it.
    """

    setting: str
    path: str
    permissions: tuple[str, ...]


def needed_permissions(job: Job, sources: tuple[Source, ...]) -> dict[str, tuple[str, ...]]:
    """Permissions by service; a service that the job does not use is left out."""
    needed: dict[str, set[str]] = {}
    for bucket in needed_buckets(job, sources):
        needed.setdefault("Cloud Storage", set()).update(bucket.permissions)
    for (service, _), names in project_permissions(job, sources).items():
        needed.setdefault(service, set()).update(names)
    if any(isinstance(source, BigQuerySource) for source in sources):
        needed["BigQuery"].update(ON_SOURCES)
    return {service: tuple(sorted(names)) for service, names in needed.items()}


def needed_buckets(job: Job, sources: tuple[Source, ...]) -> tuple[Bucket, ...]:
    """Each bucket once, with the most that is done there."""
    found: dict[str, Bucket] = {}
    for setting, path, names in _paths(job, sources):
        if path.startswith(SCHEME):
            found.setdefault(split_path(path)[0], Bucket(setting, path, names))
    return tuple(found.values())


def _paths(job: Job, sources: tuple[Source, ...]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Paths with their settings, and what is done there; where most is done first."""
    yield "workspace", job.workspace, STORAGE
    if isinstance(job.runner, DataflowRunner) and job.runner.temp_location is not None:
        yield "runner.temp_location", job.runner.temp_location, STORAGE
    if isinstance(job, ForeignJob):
        yield "model.saved_model", job.model.saved_model, STORAGE_READING
    for source in sources:
        for pattern in getattr(source, "files", ()):
            yield "files of a source", pattern, STORAGE_READING


def project_permissions(job: Job, sources: tuple[Source, ...]) -> dict[tuple[str, str | None], tuple[str, ...]]:
    """Permissions by service and project; by None what the credentials' own project pays."""
    needed: dict[tuple[str, str | None], set[str]] = {}
    if isinstance(job.warehouse, BigQueryWarehouse):
        needed["BigQuery", job.warehouse.project] = {*PUBLISHING}
    for source in sources:
        if isinstance(source, BigQuerySource):
            payer = source.project or (source.table.partition(".")[0] if source.table is not None else None)
            # A query runs as a job, and so does asking for BigQuery's time, as of which a table is read.
            needed.setdefault(("BigQuery", payer), set()).update(("bigquery.jobs.create", *_SESSIONS))
    if isinstance(job.precompute, VertexBatchPrecompute) and job.precompute.instances_format == "bigquery":
        dataset = job.precompute.dataset
        project = re.split("[.:]", dataset)[0] if dataset is not None else getattr(job.warehouse, "project", None)
        needed.setdefault(("BigQuery", project), set()).update(PUBLISHING, READING)
    found = {key: tuple(sorted(names)) for key, names in needed.items()}
    if isinstance(job.runner, DataflowRunner):
        acting = ("iam.serviceAccounts.actAs",) if job.runner.service_account is not None else ()
        found["Dataflow", job.runner.project] = (*DATAFLOW, *acting)
    if job.vertex is not None:
        for service, permissions in _vertex_permissions(job, job.vertex).items():
            found[service, job.vertex.project] = permissions
    return found


def _vertex_permissions(job: Job, vertex: Vertex) -> dict[str, tuple[str, ...]]:
    training = job.model.training if isinstance(job.model, Model) else None
    trains, predicts = isinstance(training, VertexTraining), isinstance(job.precompute, VertexBatchPrecompute)
    accounts = [
        vertex.service_account,
        *(getattr(node, "service_account", None) for node in (training, job.precompute)),
    ]
    needed = {
        "Vertex AI": (
            *VERTEX,
            *(VERTEX_TRAINING if trains else ()),
            *(VERTEX_PREDICTION if predicts else ()),
            *(("iam.serviceAccounts.actAs",) if any(accounts) else ()),
        )
    }
    return needed | ({"Cloud Logging": LOGGING} if trains or predicts else {})
