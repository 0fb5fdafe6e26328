"""The permissions that a job needs, by the service that asks for them."""

from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.job import Job
from configs.modeling import Model
from configs.precomputing import VertexBatchPrecompute
from configs.sources import BigQuerySource, Source
from configs.training import VertexTraining
from configs.vertex import Vertex

STORAGE = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
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
    "BigQuery": "roles/bigquery.jobUser, roles/bigquery.dataEditor, …",
    "Dataflow": "roles/dataflow.developer",
    "Vertex AI": "roles/aiplatform.user",
    "Cloud Logging": "roles/logging.viewer",
}
"""Predefined roles that have a service's permissions."""
ON_SOURCES = ("bigquery.tables.get", "bigquery.tables.getData")
"""Of `READING`, what is asked of the tables themselves; the rest is asked of the project that pays."""


def needed_permissions(job: Job, sources: tuple[Source, ...]) -> dict[str, tuple[str, ...]]:
    """Permissions by service; a service that the job does not use is left out."""
    needed: dict[str, tuple[str, ...]] = {}
    if job.workspace.startswith("gs://"):
        needed["Cloud Storage"] = STORAGE
    bigquery: set[str] = set()
    if isinstance(job.warehouse, BigQueryWarehouse):
        bigquery |= {*PUBLISHING}
    if any(isinstance(source, BigQuerySource) for source in sources):
        bigquery |= {*READING}
    if isinstance(job.precompute, VertexBatchPrecompute) and job.precompute.instances_format == "bigquery":
        bigquery |= {*PUBLISHING, *READING}
    if bigquery:
        needed["BigQuery"] = tuple(sorted(bigquery))
    if isinstance(job.runner, DataflowRunner):
        acting = ("iam.serviceAccounts.actAs",) if job.runner.service_account is not None else ()
        needed["Dataflow"] = (*DATAFLOW, *acting)
    if job.vertex is not None:
        needed |= _vertex_permissions(job, job.vertex)
    return needed


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
