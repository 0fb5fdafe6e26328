"""Columns between Arrow and the graph, and the one place that decides how a missing value travels.

Outside the graph a column has its business type and a missing value is null. Into the graph a string travels as bytes
and missing as the empty string, a float as float32 and missing as NaN, an int as int64 and missing as `MISSING_INT`.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.features import MISSING_IN_GRAPH, ColumnType

MISSING_INT: int = MISSING_IN_GRAPH["int"]

ARROW_TYPES: dict[ColumnType, pa.DataType] = {"string": pa.string(), "float": pa.float64(), "int": pa.int64()}
_GRAPH_TYPES: dict[ColumnType, pa.DataType] = {"string": pa.large_binary(), "float": pa.float32(), "int": pa.int64()}


def arrow_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """Schema of a batch of these columns, outside the graph."""
    return pa.schema([(name, ARROW_TYPES[column_type]) for name, column_type in columns.items()])


def graph_column(array: pa.Array | pa.ChunkedArray, column_type: ColumnType) -> pa.Array:
    """One column as it travels into the graph, `[num_rows]`, without nulls."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    cast = pc.cast(array, _GRAPH_TYPES[column_type], safe=False)
    return pc.fill_null(cast, pa.scalar(MISSING_IN_GRAPH[column_type], _GRAPH_TYPES[column_type]))


def graph_inputs(batch: pa.RecordBatch | pa.Table, features: Mapping[str, ColumnType]) -> dict[str, np.ndarray]:
    """Arguments of the serving signature for these rows: each `[num_rows]`, float32, int64, or bytes objects."""
    return {
        name: graph_column(batch.column(name), column_type).to_numpy(zero_copy_only=False)
        for name, column_type in features.items()
    }


def adapter_schema(features: Mapping[str, ColumnType]) -> pa.Schema:
    """Schema that tf.Transform's tensor adapter asks for: a list of one value for each row."""
    return pa.schema([(name, pa.large_list(_GRAPH_TYPES[column_type])) for name, column_type in features.items()])


def adapter_batch(batch: pa.RecordBatch | pa.Table, features: Mapping[str, ColumnType]) -> pa.RecordBatch:
    """The rows in `adapter_schema`, column for column."""
    offsets = pa.array(np.arange(batch.num_rows + 1), pa.int64())
    arrays = [
        pa.LargeListArray.from_arrays(offsets, graph_column(batch.column(name), column_type))
        for name, column_type in features.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=adapter_schema(features))
