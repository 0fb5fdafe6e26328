"""Instances: what Vertex hands to the served model for a row, as columns of an Arrow batch and as lines of JSON.

JSON has no missing number, no bytes, and no integer beyond 2^53 that every reader keeps. So a model of ours takes a
tf.Example as text, which its registered signature decodes; a model that somebody else made takes its own inputs, and
a value that JSON would change is refused.
"""

import base64
import json.encoder
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import RefusedError
from configs.features import ColumnType

EXAMPLE = "example"
"""Input of a registered model of ours: see `models.exporting`."""
LARGEST_EXACT_INT = 2**53
"""Beyond, a reader that takes JSON's numbers for doubles changes an integer."""
_EXAMPLE_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.large_binary(),
    "float": pa.float32(),
    "int": pa.int64(),
}


def example_instances(rows: pa.RecordBatch, features: Mapping[str, ColumnType]) -> pa.RecordBatch:
    """Instances of a model of ours: one column `example`, the web-safe base64 of a serialized tf.Example.

    Args:
        rows: raw features, null where missing; further columns are ignored.
    """
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    lists = pa.RecordBatch.from_pydict(
        {name: _lists(rows.column(name), _EXAMPLE_TYPES[kind]) for name, kind in features.items()}
    )
    examples = RecordBatchToExamplesEncoder().encode(lists)
    texts = pa.array(map(base64.urlsafe_b64encode, examples), pa.binary(), size=len(examples))
    return pa.RecordBatch.from_pydict({EXAMPLE: texts.cast(pa.string())})


def object_instances(inputs: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """Instances of a model that somebody else made: a column for each input.

    Args:
        inputs: by name, `[num_rows]` or `[num_rows, 1]`, in the signature's own types.

    Raises:
        RefusedError: JSON would change a value; names the input and the value.
    """
    return pa.RecordBatch.from_pydict({name: _input_column(name, values) for name, values in inputs.items()})


def json_lines(instances: pa.RecordBatch) -> bytes:
    """The instances as JSON objects, one a line, in ASCII; every float reads back as the double that it is."""
    names = [json.dumps(name).replace("%", "%%") for name in instances.schema.names]
    line = "{" + ", ".join(f"{name}: %s" for name in names) + "}\n"
    texts = [_json_texts(column) for column in instances.columns]
    return "".join(map(line.__mod__, zip(*texts, strict=True))).encode()


def _lists(column: pa.Array, value_type: pa.DataType) -> pa.LargeListArray:
    """A list of one value in each row, null where the value is: of that the encoder makes a feature without values."""
    cast = pc.cast(column, value_type, safe=False)
    missing = cast.is_null()
    offsets = np.zeros(len(cast) + 1, np.int64)
    np.cumsum(~missing.to_numpy(zero_copy_only=False), out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), cast.drop_null(), mask=missing)


def _input_column(name: str, values: np.ndarray) -> pa.Array:
    flat = values.reshape(-1)
    if flat.dtype == object:
        array = pa.array(flat, pa.binary()).cast(pa.string())
    else:
        changed = np.flatnonzero(~_survives_json(flat))
        if len(changed):
            value = flat[changed[0]].item()
            raise RefusedError(
                f"input {name!r}: {value!r} would not survive JSON, in which Vertex AI takes instances; take it out of"
                " the input space, or score with precompute.on: pipeline"
            )
        array = pa.array(flat.astype(np.float64) if flat.dtype.kind == "f" else flat)
        if flat.dtype.kind == "u":
            array = array.cast(pa.int64())
    if values.ndim == 1:
        return array
    return pa.ListArray.from_arrays(pa.array(np.arange(len(flat) + 1, dtype=np.int32)), array)


def _survives_json(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.isfinite(values)
    if values.dtype.kind == "b":
        return np.ones(len(values), bool)
    return (values <= LARGEST_EXACT_INT) & (values >= (-LARGEST_EXACT_INT if values.dtype.kind == "i" else 0))


def _json_texts(column: pa.Array) -> list[str]:
    if pa.types.is_list(column.type):  # of one value a row
        return [f"[{text}]" for text in _json_texts(column.flatten())]
    return list(map(_writer(column.type), column.to_pylist()))


def _writer(value_type: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_string(value_type):
        return json.encoder.encode_basestring_ascii
    if pa.types.is_boolean(value_type):
        return lambda value: "true" if value else "false"
    return float.__repr__ if pa.types.is_floating(value_type) else int.__repr__
