"""Reads TFRecord files of serialized tf.Example, decoded to columns by tfx-bsl, never one Python object a value.

A feature that is absent, or empty, is missing. Feature types are checked by example: tf.Example has no schema.
"""

import contextlib
import gzip
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.tfrecordio import _TFRecordUtil
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.errors import RefusedError
from configs.features import ColumnType
from configs.sources import TFRecordSource
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected, exact_batches, sort_rows
from transforms.files import open_raw, refusing_unreadable

_FEATURE_TYPES: dict[ColumnType, Any] = {
    "string": schema_pb2.BYTES,
    "float": schema_pb2.FLOAT,
    "int": schema_pb2.INT,
}


def read(
    path: str, expected: Expected, source: TFRecordSource, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch | BadRow]:
    """Reads a file's good rows, in order and in batches of `batch_rows` but the last, and its bad rows.

    Raises:
        RefusedError: the file is truncated or corrupt; each record has a checksum.
    """
    with refusing_unreadable(path):
        yield from exact_batches(_sorted_rows(path, expected, batch_rows), batch_rows)


def _sorted_rows(path: str, expected: Expected, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    numbered = enumerate(read_records(path), start=1)
    while chunk := list(itertools.islice(numbered, batch_rows)):
        numbers, records = zip(*chunk, strict=True)
        yield from _decode(path, list(records), expected, np.array(numbers))


def read_records(path: str) -> Iterator[bytes]:
    """Reads a file's records as they are.

    Raises:
        RefusedError: a record is cut off, or its checksum is wrong.
    """
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(contextlib.closing(open_raw(path)))
        if path.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        number = 0
        while True:
            try:
                record = _TFRecordUtil.read_record(file)
            except ValueError as error:
                raise RefusedError(f"{path}: truncated or corrupt after record {number}") from error
            if record is None:
                return
            yield record
            number += 1


def _decode(
    path: str, records: list[bytes], expected: Expected, numbers: np.ndarray
) -> Iterator[pa.RecordBatch | BadRow]:
    """Decodes records of one set of feature types at once, and of several by halves."""
    columns = _try_decoding(records, expected)
    if columns is None and len(records) > 1:
        half = len(records) // 2
        yield from _decode(path, records[:half], expected, numbers[:half])
        yield from _decode(path, records[half:], expected, numbers[half:])
        return
    if columns is None:
        yield BadRow(path, int(numbers[0]), "", "", "not a tf.Example")
        return
    arrays: dict[str, pa.Array] = {}
    several: dict[int, BadRow] = {}
    for name in expected.columns:
        if name not in columns.schema.names or pa.types.is_null(columns.column(name).type):
            arrays[name] = pa.nulls(len(records))
            continue
        values = columns.column(name)
        for row in np.flatnonzero(pc.fill_null(pc.list_value_length(values), 0).to_numpy() > 1):
            reason = f"expected one value, got {len(values[int(row)])}"
            several.setdefault(int(row), BadRow(path, int(numbers[row]), name, "", reason))
        arrays[name] = _first_values(values)
    yield from several.values()
    keep = np.delete(np.arange(len(records)), list(several))
    if several:
        arrays = {name: array.take(pa.array(keep)) for name, array in arrays.items()}
    batch, bad_rows = sort_rows(path, arrays, expected, numbers[keep])
    yield from bad_rows
    yield batch


def _first_values(lists: pa.Array) -> pa.Array:
    """First value of each list; null for a null or empty one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = np.asarray(lists.offsets)[:-1]
    return lists.values.take(pa.array(offsets, mask=lengths == 0))


def _try_decoding(records: list[bytes], expected: Expected) -> pa.RecordBatch | None:
    """Columns of lists, by the expected types or else by the examples' own; None if they do not agree on their own."""
    from tfx_bsl.coders import example_coder  # takes seconds: it imports TensorFlow

    schema = schema_pb2.Schema()
    for name, column_type in expected.columns.items():
        schema.feature.add(name=name, type=_FEATURE_TYPES[column_type])
    for serialized_schema in (schema.SerializeToString(), None):
        # A new decoder each time: one that has failed gives broken batches afterwards.
        with contextlib.suppress(RuntimeError):
            return example_coder.ExamplesToRecordBatchDecoder(serialized_schema).DecodeBatch(records)
    return None
