"""The axes of a published night as a reader meets them: what a key gives values of, and which rows they name."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.warehouses.base import NightRecord, Value
from beam_jobs.workspace import storage
from configs.errors import ForetableError
from configs.space import interval_columns

_METADATA_KEY = b"foretable"  # where `transforms.space.input_space` says what an axis is


@dataclasses.dataclass(frozen=True)
class PublishedAxis:
    """An axis of a published night.

    Attributes:
        table: its key columns.
        intervals_of: the feature whose intervals the rows are, if they are intervals.
    """

    table: pa.Table
    intervals_of: str | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """What a key gives a value of."""
        return (self.intervals_of,) if self.intervals_of is not None else tuple(self.table.column_names)

    def interval_rows(self) -> Iterator[tuple[float | int | None, float | int | None, bool]]:
        """Lower bound, upper bound, whether it is the missing value, of each row."""
        names = interval_columns(self.intervals_of or "")
        columns = [self.table[name].to_pylist() for name in names if name in self.table.column_names]
        if len(columns) < len(names):
            columns.append([False] * self.table.num_rows)
        yield from zip(*columns, strict=True)

    def find_interval(self, value: float | int | None) -> int | None:
        """The row with this number in it, as the model sees it; None is the missing value."""
        seen = _as_float32(value) if isinstance(value, float) else value
        for index, (low, high, is_missing) in enumerate(self.interval_rows()):
            if is_missing or seen is None:
                if is_missing and seen is None:
                    return index
            elif (low is None or low <= seen) and (high is None or seen < high):
                return index
        return None

    def nearest_intervals(self, value: float | int | None, count: int) -> list[str]:
        """The intervals nearest to a number that is in none of them, as text."""

        def distance(bounds: tuple[float | int | None, float | int | None]) -> float:
            low, high = bounds
            if value is None:
                return 0
            return max(0 if low is None else low - value, 0 if high is None else value - high, 0)

        bounds = [(low, high) for low, high, is_missing in self.interval_rows() if not is_missing]
        return [interval_text(*found) for found in sorted(bounds, key=distance)[:count]]


def read_axes(record: NightRecord, names: Sequence[str] | None = None) -> list[PublishedAxis]:
    """The axes of a published night, in row-major order.

    Args:
        names: of the columns to read; by default those of the key.

    Raises:
        ForetableError: one cannot be read.
    """
    if names is None:
        names = [column.name for column in record.key_columns]
    return [_read_axis(path, names) for path in record.axes]


def _read_axis(path: str, names: Sequence[str]) -> PublishedAxis:
    source = path if storage.is_local(path) else pa.BufferReader(storage.read_bytes(path))
    try:
        schema = pq.read_schema(source)
        table = pq.read_table(source, columns=[name for name in schema.names if name in names], partitioning=None)
        described = json.loads((schema.metadata or {}).get(_METADATA_KEY, "{}"))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ForetableError(f"{path}: cannot read the axis of the published night: {error}") from error
    return PublishedAxis(table, described["name"] if described.get("kind") == "buckets" else None)


def interval_text(low: Value, high: Value) -> str:
    """An interval, such as `[12, 20)`."""
    return f"{'(-inf' if low is None else f'[{number_text(low)}'}, {'inf' if high is None else number_text(high)})"


def number_text(value: Value) -> str:
    """A value, and a number without digits that it does not need."""
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)


def _as_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        seen = float(np.float32(value))
    # TensorFlow takes what is nearer to zero for zero.
    return 0.0 if math.isfinite(seen) and abs(seen) < float(np.finfo(np.float32).smallest_normal) else seen
