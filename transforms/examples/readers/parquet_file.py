"""Reads Parquet files, a row group at a time, and of them only the columns that are needed."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.sources import ParquetSource
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected, check_columns, exact_batches, sort_rows
from transforms.files import open_raw, refusing_unreadable


def read(
    path: str, expected: Expected, source: ParquetSource, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch | BadRow]:
    """Reads a file's good rows, in order and in batches of `batch_rows` but the last, and its bad rows.

    Raises:
        RefusedError: the file is truncated or corrupt, or lacks a column.
    """
    with refusing_unreadable(path):
        yield from exact_batches(_sorted_rows(path, expected, batch_rows), batch_rows)


def column_names(path: str, source: ParquetSource) -> tuple[str, ...]:
    """The names in a file's schema.

    Raises:
        RefusedError: the file is truncated or corrupt.
    """
    with refusing_unreadable(path), contextlib.closing(open_raw(path)) as raw:
        return tuple(pq.read_schema(pa.PythonFile(raw, mode="r")).names)


def _sorted_rows(path: str, expected: Expected, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    with contextlib.closing(open_raw(path)) as raw, pq.ParquetFile(pa.PythonFile(raw, mode="r")) as file:
        check_columns(path, file.schema_arrow.names, expected)
        first = 1
        for rows in file.iter_batches(batch_size=batch_rows, columns=list(expected.columns)):
            arrays = {name: rows.column(name) for name in expected.columns}
            batch, bad_rows = sort_rows(path, arrays, expected, np.arange(first, first + rows.num_rows))
            yield from bad_rows
            yield batch
            first += rows.num_rows
