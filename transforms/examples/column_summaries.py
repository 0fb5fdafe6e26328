"""Summaries of columns that take batches in and merge with another: all that statistics of any number of rows need.

What is said to be exact is the same to the last bit however the rows are cut into batches and these among workers:
counts, also of what is beyond bounds, extremes, means and deviations; quantiles of up to `EXACT_VALUES` different
numbers; counts of up to `EXACT_WORDS` different words; a label's moments for each of up to `LABELLED_VALUES` values.
Beyond, quantiles are within 0.1 % of the rows, a word's count is within rows / `EXACT_WORDS`, and the number of
different words within about 1 % (which, too, depends on the words alone).
"""

import dataclasses
import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl import sketches

from transforms.examples.exact_sums import ExactMoments

EXACT_VALUES = 1000
EXACT_WORDS = 1 << 14
LABELLED_VALUES = 300

_QUANTILE_ERROR = 0.001
_MAX_ROWS = 1 << 32


def _quantiles_sketch() -> Any:
    return sketches.QuantilesSketch(_QUANTILE_ERROR, _MAX_ROWS, 1)


@dataclasses.dataclass
class NumericSummary:
    """Summary of an int or float column.

    Attributes:
        bounds: least and greatest value that are expected, if any are; rows beyond them are counted.
        value_counts: rows by value; None once there are more than `EXACT_VALUES` different ones. Until then the sketch
            of quantiles is empty.
    """

    is_int: bool
    bounds: tuple[float, float] | None = None
    outside: int = 0
    rows: int = 0
    missing: int = 0
    moments: ExactMoments = dataclasses.field(default_factory=ExactMoments)
    minimum: float = math.inf
    maximum: float = -math.inf
    zeros: int = 0
    value_counts: dict[float, int] | None = dataclasses.field(default_factory=dict)
    sketch: Any = dataclasses.field(default_factory=_quantiles_sketch)

    @property
    def count(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    def add(self, array: pa.Array) -> None:
        """Takes in a batch of the column; its values are finite."""
        values = array.drop_null().cast(pa.float64(), safe=False)
        numbers = values.to_numpy() + 0.0  # one zero, not two
        self.moments.add(numbers)
        self.rows += len(array)
        self.missing += array.null_count
        self.zeros += int((numbers == 0).sum())
        if self.bounds is not None:
            self.outside += int(((numbers < self.bounds[0]) | (numbers > self.bounds[1])).sum())
        self.minimum = min(self.minimum, float(numbers.min(initial=math.inf)))
        self.maximum = max(self.maximum, float(numbers.max(initial=-math.inf)))
        if self.value_counts is None:
            self.sketch.AddValues(values)
        else:
            distinct, counts = np.unique(numbers, return_counts=True)
            self._count_values(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: "NumericSummary") -> None:
        """Takes in another part of the same column."""
        self.moments.merge(other.moments)
        self.rows += other.rows
        self.missing += other.missing
        self.zeros += other.zeros
        self.outside += other.outside
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if other.value_counts is None:
            self._leave_counting()
            self.sketch.Merge(other.sketch)
        else:
            self._count_values(other.value_counts)

    def quantiles(self, buckets: int) -> np.ndarray:
        """Edges of so many buckets of as many rows each, `[buckets + 1]`, from minimum to maximum; of some rows."""
        if self.value_counts is None:
            # Asking a sketch for quantiles closes it for good, and Beam may still want to merge this one.
            sketch = pickle.loads(pickle.dumps(self.sketch))
            edges = np.array(sketch.GetQuantiles(buckets).to_pylist()[0])
        else:
            values = np.array(sorted(self.value_counts))
            reached = np.cumsum([self.value_counts[value] for value in values.tolist()])
            ranks = np.arange(buckets + 1) * self.count
            # The least value that at least i / buckets of the rows do not exceed, in whole numbers.
            edges = values[np.searchsorted(reached * buckets, ranks, side="left")]
        edges[0], edges[-1] = self.minimum, self.maximum
        return edges

    def _count_values(self, counts: dict[float, int]) -> None:
        if self.value_counts is None:
            self._sketch_counts(counts)
            return
        for value, count in counts.items():
            self.value_counts[value] = self.value_counts.get(value, 0) + count
        if len(self.value_counts) > EXACT_VALUES:
            self._leave_counting()

    def _leave_counting(self) -> None:
        counts, self.value_counts = self.value_counts, None
        self._sketch_counts(counts or {})

    def _sketch_counts(self, counts: dict[float, int]) -> None:
        if counts:
            values = sorted(counts)
            weights = pa.array([counts[value] for value in values], pa.float32())
            self.sketch.AddValues(pa.array(values, pa.float64()), weights)


@dataclasses.dataclass
class StringSummary:
    """Summary of a string column."""

    rows: int = 0
    missing: int = 0
    total_bytes: int = 0
    top: Any = dataclasses.field(default_factory=lambda: sketches.MisraGriesSketch(EXACT_WORDS))
    distinct: Any = dataclasses.field(default_factory=lambda: sketches.KmvSketch(EXACT_WORDS))

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
class LabelSummary:
    """How a label of numbers goes with the words or whole numbers of a column.

    Attributes:
        moments: of the label, by value; None once there are more than `LABELLED_VALUES` of them.
    """

    moments: dict[str | int, ExactMoments] | None = dataclasses.field(default_factory=dict)

    def add(self, array: pa.Array, label: np.ndarray) -> None:
        """Takes in a batch of the column, `[num_rows]`, with its labels."""
        if self.moments is None:
            return
        encoded = array.dictionary_encode()
        if len(encoded.dictionary) > LABELLED_VALUES:
            self.moments = None
            return
        present = encoded.is_valid().to_numpy(zero_copy_only=False)
        codes = encoded.indices.drop_null().to_numpy()
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
        ordered = label[present][order]
        batch = {}
        for code, word in enumerate(encoded.dictionary.to_pylist()):
            batch[word] = ExactMoments()
            batch[word].add(ordered[starts[code] : starts[code + 1]])
        self.merge(LabelSummary(batch))

    def merge(self, other: "LabelSummary") -> None:
        """Takes in another part of the same column."""
        if self.moments is None or other.moments is None:
            self.moments = None
            return
        for word, moments in other.moments.items():
            self.moments.setdefault(word, ExactMoments()).merge(moments)
        if len(self.moments) > LABELLED_VALUES:
            self.moments = None


@dataclasses.dataclass
class SplitSummary:
    """Summaries of a split's columns.

    Attributes:
        label_name: column whose mean is wanted for each value of the others, if it is of numbers.
        bounds: of columns of numbers, which count what is beyond them.
        labels: by column of words or whole numbers.
    """

    label_name: str | None = None
    bounds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    rows: int = 0
    columns: dict[str, NumericSummary | StringSummary] = dataclasses.field(default_factory=dict)
    labels: dict[str, LabelSummary] = dataclasses.field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes in rows."""
        self._add_labels(batch)
        self.rows += batch.num_rows
        for field, array in zip(batch.schema, batch.columns, strict=True):
            if field.name not in self.columns:
                is_text = pa.types.is_string(field.type)
                self.columns[field.name] = (
                    StringSummary()
                    if is_text
                    else NumericSummary(pa.types.is_integer(field.type), self.bounds.get(field.name))
                )
            self.columns[field.name].add(array)

    def merge(self, other: "SplitSummary") -> None:
        """Takes in other rows of the same split."""
        self.rows += other.rows
        for name, labels in other.labels.items():
            self.labels.setdefault(name, LabelSummary()).merge(labels)
        for name, summary in other.columns.items():
            if name in self.columns:
                self.columns[name].merge(summary)  # type: ignore[arg-type]
            else:
                self.columns[name] = summary

    def _add_labels(self, batch: pa.RecordBatch) -> None:
        if self.label_name is None or not pa.types.is_primitive(batch.schema.field(self.label_name).type):
            return
        column = batch.column(self.label_name)
        label = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        has_label = column.is_valid()
        for field, array in zip(batch.schema, batch.columns, strict=True):
            is_discrete = pa.types.is_string(field.type) or pa.types.is_integer(field.type)
            if is_discrete and field.name != self.label_name:
                self.labels.setdefault(field.name, LabelSummary()).add(
                    pc.if_else(has_label, array, pa.scalar(None, array.type)), label
                )
