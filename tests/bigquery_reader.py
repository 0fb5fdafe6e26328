"""A BigQuery dataset of a test's own: the warehouse in it, and an analyst who reads what is there."""

import dataclasses
import pathlib

from google.cloud import bigquery

from beam_jobs.warehouses.bigquery.clients import bigquery_client
from beam_jobs.warehouses.bigquery.warehouse import BigQueryWarehouse
from beam_jobs.workspace import storage
from configs.cloud import BigQueryWarehouse as Settings


class Reader:
    """A dataset of its own, the warehouse in it, and an analyst's client.

    Args:
        endpoints: of the warehouse, where a fault lies before the twin's own.
        settings: of the job file's warehouse.
    """

    def __init__(self, cloud, endpoints=None, **settings):
        self.dataset = cloud.bigquery.new_dataset()
        place = {"kind": "bigquery", "project": cloud.bigquery.project, "dataset": self.dataset}
        self.settings = Settings(**place | settings)
        self.endpoints = endpoints or cloud.endpoints
        self.warehouse = self.open()
        self.client = bigquery_client(cloud.bigquery.project, cloud.endpoints, "US")

    def open(self):
        """The warehouse, as another process would open it."""
        return BigQueryWarehouse(self.settings, self.endpoints, retention_days=30)

    def read(self, sql):
        """Rows of a query over this dataset."""
        config = bigquery.QueryJobConfig(default_dataset=self.warehouse.location)
        return [tuple(row.values()) for row in self.client.query_and_wait(sql, job_config=config)]

    def rows(self, view="natality_predictions"):
        """All rows of a table or view, sorted."""
        return sorted(self.read(f"SELECT * FROM {view}"), key=repr)

    def table(self, name):
        """A table's metadata."""
        return self.client.get_table(f"{self.warehouse.location}.{name}")

    def names(self):
        """Names of all tables and views."""
        return sorted(item.table_id for item in self.client.list_tables(self.warehouse.location))


def move_to_storage(cloud, night):
    """The night, with its run directory in Cloud Storage."""
    target, folder = cloud.storage.url(), pathlib.Path(night.run_dir)
    for path in folder.rglob("*.*"):
        storage.write_bytes(storage.join(target, *path.relative_to(folder).parts), path.read_bytes())
    axes = tuple(storage.join(target, "axes", pathlib.Path(path).name) for path in night.axes)
    return dataclasses.replace(night, run_dir=target, axes=axes)
