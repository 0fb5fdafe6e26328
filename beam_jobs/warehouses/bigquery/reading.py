"""Rows of BigQuery as Arrow: answers of a query, and a whole night's table."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from beam_jobs.warehouses.base import Column, NightRecord
from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RETRY, read_client
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.errors import explained
from configs.cloud import Endpoints

_MOST_ROWS_BY_REST = 50_000
"""More come by the Storage Read API, which takes a moment to open and a permission of its own."""
_ARROW_TYPES = {"string": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}


def arrow_of(dataset: Dataset, rows: Any, endpoints: Endpoints) -> pa.Table:
    """What a query answered."""
    with explained(dataset.name):
        if (rows.total_rows or 0) <= _MOST_ROWS_BY_REST:
            return rows.to_arrow(create_bqstorage_client=False)
        return rows.to_arrow(bqstorage_client=read_client(endpoints))


def night_batches(dataset: Dataset, record: NightRecord, endpoints: Endpoints) -> pa.RecordBatchReader:
    """A night's rows in the types of its shards, in no order, read as they are asked for."""
    schema = pa.schema([(column.name, _arrow_type(column)) for column in record.columns])

    def batches() -> Iterator[pa.RecordBatch]:
        with explained(dataset.path(record.table)):
            rows = dataset.client.list_rows(dataset.path(record.table), retry=RETRY, timeout=CALL_TIMEOUT_SECONDS)
            for batch in rows.to_arrow_iterable(bqstorage_client=read_client(endpoints)):
                yield batch.select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _arrow_type(column: Column) -> pa.DataType:
    name = column.type.removesuffix("[]")
    # A model's float is a float32, which BigQuery holds as a FLOAT64.
    value_type = pa.float32() if name == "float" and column.role == "output" else _ARROW_TYPES[name]
    return pa.list_(value_type) if column.type.endswith("[]") else value_type
