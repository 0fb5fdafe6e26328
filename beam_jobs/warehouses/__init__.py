"""Where prediction tables live, behind one small protocol."""

from beam_jobs.warehouses.base import Warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import job_folder
from configs import cloud
from configs.job import Job


def open_warehouse(job: Job) -> Warehouse:
    """The warehouse that the job file names."""
    if isinstance(job.warehouse, cloud.BigQueryWarehouse):
        from beam_jobs.warehouses.bigquery.warehouse import BigQueryWarehouse

        return BigQueryWarehouse(job.warehouse, job.endpoints, job.publish.retention_days)
    from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse

    return DuckDBWarehouse(job.warehouse.path or storage.join(job_folder(job), f"{job.name}.duckdb"))
