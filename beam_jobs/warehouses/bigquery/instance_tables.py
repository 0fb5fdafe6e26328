"""Tables that batch prediction reads instances from and writes predictions to; each of them expires.

Instances come from Parquet files in the workspace by one load job of a fixed id; predictions go back by the Arrow
streams of a Storage Read session.
"""

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from google.cloud import bigquery

from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RECONNECT, RETRY, bigquery_client, read_client
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.errors import explained
from configs.cloud import BigQueryWarehouse
from configs.errors import ForetableError
from configs.job import Job

EXPIRY_DAYS = 7
_TYPES = ((pa.types.is_string, "STRING"), (pa.types.is_integer, "INT64"), (pa.types.is_floating, "FLOAT64"))


class InstanceTables:
    """Tables in one dataset.

    Attributes:
        dataset: where they are.
    """

    def __init__(self, job: Job, name: str | None):
        """Looks for the dataset.

        Args:
            name: `project.dataset`, or None for the warehouse's.

        Raises:
            JobError: it is not there.
        """
        self._endpoints = job.endpoints
        if name is None:
            assert isinstance(job.warehouse, BigQueryWarehouse), job.name
            self.dataset = Dataset(job.warehouse, job.endpoints)
            return
        project, _, dataset = name.rpartition(".")
        with explained(name):
            found = bigquery_client(project, job.endpoints).get_dataset(name, retry=RETRY, timeout=CALL_TIMEOUT_SECONDS)
        place = BigQueryWarehouse(kind="bigquery", project=project, dataset=dataset, location=found.location)
        self.dataset = Dataset(place, job.endpoints)

    def load(
        self, name: str, uris: Sequence[str], schema: pa.Schema, rows: int, job_id: str, labels: Mapping[str, str]
    ) -> None:
        """Loads Parquet files into a table that expires, once; a table that has the rows is left as it is.

        Args:
            rows: of the files.
            job_id: of the load job; another one for other files.

        Raises:
            ForetableError: BigQuery refuses them, or the table has other rows.
        """
        fields = [_field(field) for field in schema]
        table = bigquery.Table(self.dataset.path(name), schema=fields)
        table.labels, table.expires = self.dataset.labels | dict(labels), _expiry()
        made = self.dataset.make(table)
        if made.num_rows == rows:
            return
        options = bigquery.format_options.ParquetOptions()
        options.enable_list_inference = True  # a list is an ARRAY, not a RECORD of lists
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=fields,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            write_disposition=bigquery.WriteDisposition.WRITE_EMPTY,
            labels=table.labels,
        )
        config.parquet_options = options
        # A job of before the table, which expired and was made anew, is not the one whose rows are in it.
        is_of_this = lambda job: job.destination == made.reference and job.created >= made.created  # noqa: E731
        self.dataset.run_once(job_id, self.dataset.start_load(uris, name, config), counts=is_of_this)
        loaded = self.dataset.table(name)
        if loaded is None or loaded.num_rows != rows:
            found = "no table" if loaded is None else f"{loaded.num_rows:,} rows"
            raise ForetableError(f"{self.dataset.path(name)}: {found}, expected {rows:,}; delete it and run again")

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return self.dataset.table(name) is not None

    def let_expire(self, name: str) -> None:
        """Lets a table that somebody else made vanish after some days, too."""
        self.dataset.set_expiry(name, _expiry())

    def read(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows of a table, in no order."""
        from google.cloud.bigquery_storage_v1 import types

        path = self.dataset.path(name)
        project, dataset, table = path.split(".")
        session = types.ReadSession(
            table=f"projects/{project}/datasets/{dataset}/tables/{table}",
            data_format=types.DataFormat.ARROW,
            read_options=types.ReadSession.TableReadOptions(selected_fields=columns),
        )
        client = read_client(self._endpoints)
        with explained(path), contextlib.closing(client.transport):
            made = client.create_read_session(parent=f"projects/{project}", read_session=session)
            schema = pa.ipc.read_schema(pa.py_buffer(made.arrow_schema.serialized_schema))
            for stream in made.streams:
                for response in client.read_rows(stream.name, retry=RECONNECT):
                    encoded = pa.py_buffer(response.arrow_record_batch.serialized_record_batch)
                    yield pa.ipc.read_record_batch(encoded, schema).select(columns)

    def some_rows(self, name: str, count: int) -> list[dict[str, Any]]:
        """Up to so many rows of a table."""
        return self.dataset.rows(name, 0, count)


def _field(field: pa.Field) -> bigquery.SchemaField:
    is_list = pa.types.is_list(field.type)
    value_type = field.type.value_type if is_list else field.type
    name = next((name for matches, name in _TYPES if matches(value_type)), "BOOL")
    return bigquery.SchemaField(field.name, name, "REPEATED" if is_list else "NULLABLE")


def _expiry() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=EXPIRY_DAYS)
