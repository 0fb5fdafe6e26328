"""Summaries of columns that take batches in and merge with another: all that statistics of any number of rows need.

Counts and extremes are exact. Quantiles are within 0.1 % of the rows; top values are exact up to `EXACT_VALUES`
different ones, and the number of different ones up to 16,384.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl import sketches

EXACT_VALUES = 1000

_QUANTILE_ERROR = 0.001
_MAX_ROWS = 1 << 32
_EXACT_DISTINCT = 1 << 14


def _quantiles_sketch() -> Any:
    return sketches.QuantilesSketch(_QUANTILE_ERROR, _MAX_ROWS, 1)


@dataclasses.dataclass
class NumericSummary:
    """Summary of an int or float column.

    Attributes:
        squares: sum of squared differences from the mean.
    """

    is_int: bool
    rows: int = 0
    missing: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    zeros: int = 0
    quantiles: Any = dataclasses.field(default_factory=_quantiles_sketch)

    @property
    def count(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    def add(self, array: pa.Array) -> None:
        """Takes in a batch of the column."""
        values = array.drop_null().cast(pa.float64(), safe=False)
        numbers = values.to_numpy()
        self._add_moments(len(numbers), float(numbers.mean()) if len(numbers) else 0.0, _squares(numbers))
        self.rows += len(array)
        self.missing += array.null_count
        self.zeros += int((numbers == 0).sum())
        self.minimum = min(self.minimum, float(numbers.min(initial=math.inf)))
        self.maximum = max(self.maximum, float(numbers.max(initial=-math.inf)))
        self.quantiles.AddValues(values)

    def merge(self, other: "NumericSummary") -> None:
        """Takes in another part of the same column."""
        self._add_moments(other.count, other.mean, other.squares)
        self.rows += other.rows
        self.missing += other.missing
        self.zeros += other.zeros
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.quantiles.Merge(other.quantiles)

    def _add_moments(self, count: int, mean: float, squares: float) -> None:
        """Chan, Golub and LeVeque's update (1979): no cancellation, unlike the difference of two sums."""
        if count == 0:
            return
        total = self.count + count
        difference = mean - self.mean
        self.squares += squares + difference * difference * self.count * count / total
        self.mean += difference * count / total


@dataclasses.dataclass
class StringSummary:
    """Summary of a string column."""

    rows: int = 0
    missing: int = 0
    total_bytes: int = 0
    top: Any = dataclasses.field(default_factory=lambda: sketches.MisraGriesSketch(EXACT_VALUES))
    distinct: Any = dataclasses.field(default_factory=lambda: sketches.KmvSketch(_EXACT_DISTINCT))

    @property
    def count(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    def add(self, array: pa.Array) -> None:
        """Takes in a batch of the column."""
        values = array.drop_null()
        self.rows += len(array)
        self.missing += array.null_count
        self.total_bytes += pc.sum(pc.binary_length(values)).as_py() or 0
        self.top.AddValues(values)
        self.distinct.AddValues(values)

    def merge(self, other: "StringSummary") -> None:
        """Takes in another part of the same column."""
        self.rows += other.rows
        self.missing += other.missing
        self.total_bytes += other.total_bytes
        self.top.Merge(other.top)
        self.distinct.Merge(other.distinct)


@dataclasses.dataclass
class SplitSummary:
    """Summaries of a split's columns."""

    rows: int = 0
    columns: dict[str, NumericSummary | StringSummary] = dataclasses.field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes in rows."""
        self.rows += batch.num_rows
        for field, array in zip(batch.schema, batch.columns, strict=True):
            if field.name not in self.columns:
                is_text = pa.types.is_string(field.type)
                self.columns[field.name] = (
                    StringSummary() if is_text else NumericSummary(pa.types.is_integer(field.type))
                )
            self.columns[field.name].add(array)

    def merge(self, other: "SplitSummary") -> None:
        """Takes in other rows of the same split."""
        self.rows += other.rows
        for name, summary in other.columns.items():
            if name in self.columns:
                self.columns[name].merge(summary)  # type: ignore[arg-type]
            else:
                self.columns[name] = summary


def _squares(numbers: np.ndarray) -> float:
    return float(np.square(numbers - numbers.mean()).sum()) if len(numbers) else 0.0
