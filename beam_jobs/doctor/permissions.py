"""The permissions that a job needs, by the service that asks for them."""

from configs.cloud import BigQueryWarehouse, DataflowRunner
from configs.job import Job
from configs.sources import BigQuerySource, Source

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
    if bigquery:
        needed["BigQuery"] = tuple(sorted(bigquery))
    if isinstance(job.runner, DataflowRunner):
        acting = ("iam.serviceAccounts.actAs",) if job.runner.service_account is not None else ()
        needed["Dataflow"] = (*DATAFLOW, *acting)
    return needed
