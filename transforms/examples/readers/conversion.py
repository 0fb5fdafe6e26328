"""Values of a source as the job's column types; what cannot be converted becomes null and is reported with its reason.

One set of rules for all sources: NaN and the empty string are missing, infinity is an error, a whole float is an int.
"""

import dataclasses
import decimal
import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.features import ColumnType
from transforms.columns import MISSING_INT

_MAX_EXACT_FLOAT = 2.0**53
_FLOAT_TEXT = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
_INT_TEXT = r"^-?\d{1,19}$"
_EXPECTED: dict[ColumnType, str] = {
    "string": "expected UTF-8 text",
    "float": "expected a number",
    "int": "expected a whole number",
}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A column after its conversion.

    Attributes:
        values: `[num_rows]` of the column type's Arrow type; null where a value is missing or could not be converted.
        faults: what is wrong, by row.
    """

    values: pa.Array
    faults: Mapping[int, str]


def parse_text(texts: pa.Array, column_type: ColumnType) -> Converted:
    """Parses a column of text, in which null is missing; blanks around a number do not count."""
    if column_type == "string":
        return Converted(_null_where(texts, pc.equal(texts, "")), {})
    trimmed = pc.ascii_trim_whitespace(texts)
    present = _null_where(trimmed, pc.equal(trimmed, ""))
    values = _parse_floats(present) if column_type == "float" else _parse_ints(present)
    return _checked(values, present, column_type, _EXPECTED[column_type])


def convert(array: pa.Array, column_type: ColumnType) -> Converted:
    """Converts a column of a typed source; text is not read as a number, as that the types differ is worth knowing."""
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = _null_where(array, pc.is_nan(array))
    values = {"string": _to_text, "float": _to_floats, "int": _to_ints}[column_type](array)
    return _checked(values, array, column_type, f"{_EXPECTED[column_type]}, got {array.type}")


def _checked(values: pa.Array, present: pa.Array, column_type: ColumnType, expected: str) -> Converted:
    """Reports what was present and came out null, and nulls and reports what came out and may not be."""
    failed = pc.and_(pc.is_valid(present), pc.is_null(values))
    faults = {row: expected for row in _rows(failed) if not _is_nan(present[row].as_py())}
    if column_type == "string":
        return Converted(_null_where(values, pc.equal(values, "")), faults)
    if column_type == "int":
        reserved = pc.equal(values, MISSING_INT)
        faults |= dict.fromkeys(_rows(reserved), "stands for a missing int inside the graph")
        return Converted(_null_where(values, reserved), faults)
    faults |= dict.fromkeys(_rows(pc.is_inf(values)), "expected a finite number")
    return Converted(_null_where(values, pc.invert(pc.is_finite(values))), faults)


def _parse_floats(texts: pa.Array) -> pa.Array:
    try:
        return pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return pc.cast(_null_where(texts, pc.invert(pc.match_substring_regex(texts, _FLOAT_TEXT))), pa.float64())


def _parse_ints(texts: pa.Array) -> pa.Array:
    try:
        return pc.cast(texts, pa.int64())
    except pa.ArrowInvalid:
        digits = _null_where(texts, pc.invert(pc.match_substring_regex(texts, _INT_TEXT)))
        # Through a float only what is not plain digits, such as pandas' 40.0: a float has 53 bits and an int 64.
        return pc.coalesce(_cast_or_null(digits, pa.int64()), _whole(_parse_floats(texts)))


def _to_floats(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.cast(array, pa.float64(), safe=False)
    if pa.types.is_decimal(kind):
        # By their text, to the nearest float: Arrow's own cast is off by a bit here and there.
        return pc.cast(pc.cast(array, pa.string()), pa.float64())
    return pa.nulls(len(array), pa.float64())


def _to_ints(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind):
        return _whole(pc.cast(array, pa.float64()))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return _cast_or_null(array, pa.int64())
    return pa.nulls(len(array), pa.int64())


def _to_text(array: pa.Array) -> pa.Array:
    if pa.types.is_nested(array.type):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_decimal(array.type):
        return _decimal_text(array)
    return _cast_or_null(array, pa.string())


def _decimal_text(array: pa.Array) -> pa.Array:
    """Plain digits, without the zeros that a column's scale pads them with: `12.5` whatever the scale."""
    encoded = pc.dictionary_encode(array)
    texts = [_plain_digits(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _plain_digits(value: decimal.Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _whole(floats: pa.Array) -> pa.Array:
    is_whole = pc.and_(pc.equal(pc.floor(floats), floats), pc.less_equal(pc.abs(floats), _MAX_EXACT_FLOAT))
    return pc.cast(_null_where(floats, pc.invert(is_whole)), pa.int64())


def _cast_or_null(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Casts what can be cast, by halving what cannot: about twice 16 casts for one bad value in a batch."""
    try:
        return pc.cast(array, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if len(array) <= 1 or isinstance(error, pa.ArrowNotImplementedError):
            return pa.nulls(len(array), target)
        half = len(array) // 2
        return pa.concat_arrays([_cast_or_null(array[:half], target), _cast_or_null(array[half:], target)])


def _null_where(array: pa.Array, mask: pa.Array) -> pa.Array:
    if not pc.any(mask).as_py():
        return array
    return pc.if_else(pc.fill_null(mask, False), pa.scalar(None, array.type), array)


def _rows(mask: pa.Array) -> list[int]:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist()


def _is_nan(value: object) -> bool:
    try:
        return isinstance(value, (str, float)) and math.isnan(float(value))
    except ValueError:
        return False
