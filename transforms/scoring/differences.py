"""How far two backends' predictions for the same points are apart: in value, relative, and in steps of float32."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from configs.errors import ForetableError
from configs.outputs import ARRAY_TYPES, Output


@dataclasses.dataclass(frozen=True)
class ColumnDifference:
    """The differences in one column of the prediction table.

    Attributes:
        unequal: rows that are not the same, bit for bit; two NaN are.
        absolute: the largest; None of text, as are the next two.
        relative: the largest, of the larger of both; infinite where one is no number.
        ulp: the largest, in steps of float32 from one to the other; None of what is no float.
        row: with the largest relative difference; of text, the first that is not the same; None where all are.
        one: value there of the one backend, as is `other` of the other.
    """

    column: str
    type: str
    unequal: int
    absolute: float | None = None
    relative: float | None = None
    ulp: int | None = None
    row: int | None = None
    one: Any = None
    other: Any = None

    def is_within(self, tolerance: float) -> bool:
        """Whether no relative difference is above the tolerance; of text, no row may differ."""
        return self.unequal == 0 or (self.relative is not None and self.relative <= tolerance)


def column_differences(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], outputs: Sequence[Output]
) -> list[ColumnDifference]:
    """The differences in each column of the outputs.

    Args:
        one: by output, `[num_rows]` or `[num_rows, width]`: float32, int64 or bytes objects.

    Raises:
        ForetableError: an output has another shape here than there.
    """
    found = []
    for output in outputs:
        left, right = one[output.name], other[output.name]
        if left.size != right.size or len(left) != len(right):
            shapes = f"{list(left.shape)} and {list(right.shape)}"
            raise ForetableError(f"the model's output {output.name!r} has the shapes {shapes} for the same rows")
        left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
        if output.type in ARRAY_TYPES.values():
            found.append(_difference(output.columns[0], output.type, left, right))
            continue
        for index, column in enumerate(output.columns):
            at = slice(index, index + 1)
            found.append(_difference(column, output.type, left[:, at], right[:, at]))
    return found


def ulps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Steps of float32 from each value to the other's, int64; from one NaN to another none."""
    steps = np.abs(_ordinals(one) - _ordinals(other))
    return np.where(np.isnan(one) & np.isnan(other), 0, steps)


def _ordinals(values: np.ndarray) -> np.ndarray:
    """Each float32's place in their order, int64; 0.0 and -0.0 are at one place."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, np.int64(-(2**31)) - bits, bits)


def _difference(column: str, kind: str, one: np.ndarray, other: np.ndarray) -> ColumnDifference:
    """Of `[num_rows, width]` each; a row's difference is the largest of its values'."""
    if one.dtype == object or other.dtype == object:
        differs = (one != other).any(axis=1)
        return _at(ColumnDifference(column, kind, int(differs.sum())), differs, one, other)
    is_float = one.dtype.kind == "f"
    absolute = _float_distance(one, other) if is_float else _int_distance(one, other)
    differs = (absolute != 0).any(axis=1)
    largest = np.maximum(np.abs(one.astype(np.float64)), np.abs(other.astype(np.float64)))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(absolute == 0, 0.0, np.where(np.isinf(absolute), np.inf, absolute / largest))
    found = ColumnDifference(
        column,
        kind,
        int(differs.sum()),
        absolute=float(absolute.max(initial=0.0)),
        relative=float(relative.max(initial=0.0)),
        ulp=int(ulps(one, other).max(initial=0)) if is_float else None,
    )
    return _at(found, relative.max(axis=1, initial=0.0), one, other)


def _float_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences, float64: infinite where only one is a number, or both are not the same infinity."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(left - right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf))


def _int_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences, float64; beyond the range of int64 as well."""
    high, low = np.maximum(one, other).astype(np.uint64), np.minimum(one, other).astype(np.uint64)
    return (high - low).astype(np.float64)


def _at(found: ColumnDifference, size: np.ndarray, one: np.ndarray, other: np.ndarray) -> ColumnDifference:
    if not found.unequal:
        return found
    row = int(np.argmax(size))
    return dataclasses.replace(found, row=row, one=_plain(one[row]), other=_plain(other[row]))


def _plain(values: np.ndarray) -> Any:
    plain = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values.tolist()]
    return plain[0] if len(plain) == 1 else plain
