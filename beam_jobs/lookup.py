"""Answers one key from the published table, or says which value is not in it and which ones near it are.

A value is looked up in its axis first, so a miss costs no scan; the row itself is then found by its exact key, so a hit
can be no other row.
"""

import dataclasses
import datetime
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.key_text import check_names, parse_value
from beam_jobs.published_axes import PublishedAxis, number_text, read_axes
from beam_jobs.warehouses.base import Cell, Column, NightRecord, Value, Warehouse
from configs.errors import ForetableError, RefusedError
from configs.space import interval_columns

NEAREST = 3
_MOST_WORDS_COMPARED = 5_000


@dataclasses.dataclass(frozen=True)
class Hit:
    """A row of the published table.

    Attributes:
        row: its value in every column; missing is None.
    """

    row: dict[str, Cell]
    run_date: datetime.date
    run_id: str
    model_version: str


@dataclasses.dataclass(frozen=True)
class Fault:
    """Values that the table does not have.

    Attributes:
        values: by column; several where each is in the table but never together with the others.
        nearest: what the table has instead, nearest first.
    """

    values: dict[str, Value]
    nearest: tuple[dict[str, Value], ...]

    def __str__(self) -> str:
        asked = _key_text(self.values)
        is_one = len(self.values) == 1
        nearest = ", ".join(_value_text(*near.values()) if is_one else f"({_key_text(near)})" for near in self.nearest)
        problem = "is not in the table" if is_one else "do not occur together in the table"
        return f"{asked} {problem}" + (f"; nearest: {nearest}" if nearest else "")


@dataclasses.dataclass(frozen=True)
class Miss:
    """A key outside the published table.

    Attributes:
        reason: a `value` or a `combination` of one axis that is not in the table, or one that `exclude` takes out.
        faults: one for each axis at fault; none for an excluded key.
        exclude: the condition, for an excluded key.
    """

    reason: Literal["value", "combination", "excluded"]
    faults: tuple[Fault, ...] = ()
    exclude: str | None = None

    def __str__(self) -> str:
        if self.reason == "excluded":
            return f"this combination is not in the table: input_space.exclude is {self.exclude!r}"
        return "; ".join(map(str, self.faults))


def find(warehouse: Warehouse, job: str, key: Mapping[str, str]) -> Hit | Miss:
    """Looks the key up in what readers of the job see.

    Args:
        key: text of each key column's value; empty or `null` is the missing value, unless the table has just that word.

    Raises:
        RefusedError: nothing is published.
        JobError: a column is unknown or has no value, or a value is not of its column's type.
    """
    record = published_night(warehouse, job)
    axes = read_axes(record)
    check_names(_asked_names(record, axes), key)
    columns = {column.name: column for column in record.key_columns}
    values: dict[str, Value] = {}
    faults: list[Fault] = []
    position = 0
    for axis in axes:
        found = _find_row(axis, columns, key)
        if isinstance(found, list):
            faults += found
            continue
        position = position * axis.table.num_rows + found
        values |= {name: axis.table.column(name)[found].as_py() for name in axis.table.column_names}
    if faults:
        return Miss("combination" if all(len(fault.values) > 1 for fault in faults) else "value", tuple(faults))
    row = warehouse.row(record, values, position)
    if row is not None:
        return Hit(row, record.run_date, record.run_id, record.model_version)
    if record.exclude is not None:
        return Miss("excluded", exclude=record.exclude)
    raise ForetableError(
        f"{record.table}: has no row of {_key_text(values)} though its axes do; publish the night again"
    )


def published_night(warehouse: Warehouse, job: str) -> NightRecord:
    """The night that readers of the job see.

    Raises:
        RefusedError: there is none yet.
    """
    record = warehouse.current(job)
    if record is None:
        raise RefusedError(f"nothing of {job} is published yet; run `foretable run` with its job file first")
    return record


def _asked_names(record: NightRecord, axes: Sequence[PublishedAxis]) -> list[str]:
    """What a key gives values of, in the order of the table."""
    asked = {name: axis.intervals_of or name for axis in axes for name in axis.table.column_names}
    return list(dict.fromkeys(asked.get(column.name, column.name) for column in record.key_columns))


def _find_row(axis: PublishedAxis, columns: Mapping[str, Column], key: Mapping[str, str]) -> int | list[Fault]:
    """The axis's row that the key names, or what is wrong with the key."""
    if axis.intervals_of is not None:
        name = axis.intervals_of
        bounds = axis.table.column(interval_columns(name)[0])
        value = _parse(dataclasses.replace(columns[interval_columns(name)[0]], name=name), key[name], bounds)
        assert not isinstance(value, str), name
        row = axis.find_interval(value)
        nearest: list[dict[str, Value]] = [{name: near} for near in axis.nearest_intervals(value, NEAREST)]
        return [Fault({name: value}, tuple(nearest))] if row is None else row
    wanted = {name: _parse(columns[name], key[name], axis.table.column(name)) for name in axis.asked}
    row = _index_of(axis.table, wanted)
    return _faults(axis.table, wanted) if row is None else row


def _parse(column: Column, text: str, known: pa.ChunkedArray) -> Value:
    is_word = column.type == "string" and bool(pc.any(pc.equal(known, text), min_count=0).as_py())
    return parse_value(column.name, column.type, text, is_word)


def _index_of(axis: pa.Table, wanted: Mapping[str, Value]) -> int | None:
    """Row of the axis with these values: exact, or else equal once the model sees them, as float32."""
    for equal in (_equal, _equal_as_float32):
        rows = _rows_where(axis, wanted, equal)
        if len(rows):
            return int(rows[0])
    return None


def _rows_where(
    axis: pa.Table, wanted: Mapping[str, Value], equal: Callable[[pa.ChunkedArray, Value], pa.ChunkedArray]
) -> np.ndarray:
    mask = np.ones(axis.num_rows, bool)
    for name, value in wanted.items():
        column = axis.column(name)
        matches = pc.is_null(column) if value is None else pc.fill_null(equal(column, value), False)
        mask &= matches.to_numpy()
    return np.flatnonzero(mask)


def _equal(column: pa.ChunkedArray, value: Value) -> pa.ChunkedArray:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return pa.chunked_array([pa.repeat(False, len(column))])  # no int column has it
    return pc.equal(column, pa.scalar(value, column.type))


def _equal_as_float32(column: pa.ChunkedArray, value: Value) -> pa.ChunkedArray:
    if not pa.types.is_float64(column.type):
        return _equal(column, value)
    return pc.equal(pc.cast(column, pa.float32(), safe=False), pa.scalar(np.float32(value), pa.float32()))


def _faults(axis: pa.Table, wanted: Mapping[str, Value]) -> list[Fault]:
    alone = [
        Fault({name: value}, tuple({name: near} for near in _nearest(axis.column(name), value)))
        for name, value in wanted.items()
        if _index_of(axis.select([name]), {name: value}) is None
    ]
    return alone or [Fault(dict(wanted), _nearest_rows(axis, wanted))]


def _nearest(column: pa.ChunkedArray, value: Value) -> list[Value]:
    known = pc.unique(column).drop_null()
    if isinstance(value, str):
        return _nearest_words(known.to_pylist(), value)
    if value is None:
        return list(known.slice(0, NEAREST).to_pylist())
    distances = np.abs(known.to_numpy(zero_copy_only=False).astype(np.float64) - value)
    return [known[int(index)].as_py() for index in np.argsort(distances, kind="stable")[:NEAREST]]


def _nearest_words(words: list[Any], value: str) -> list[Value]:
    folded = value.casefold()
    if len(words) > _MOST_WORDS_COMPARED:
        words = [word for word in words if word.casefold()[:1] == folded[:1]][:_MOST_WORDS_COMPARED]
    likeness = {word: difflib.SequenceMatcher(None, folded, word.casefold()).ratio() for word in words}
    return list(sorted(words, key=lambda word: -likeness[word])[:NEAREST])


def _nearest_rows(axis: pa.Table, wanted: Mapping[str, Value]) -> tuple[dict[str, Value], ...]:
    """Rows that agree with what is wanted in all columns but the fewest."""
    agreeing = np.zeros(axis.num_rows, int)
    for name, value in wanted.items():
        agreeing[_rows_where(axis, {name: value}, _equal_as_float32)] += 1
    best = np.flatnonzero(agreeing == agreeing.max(initial=0))[:NEAREST]
    return tuple(axis.take(pa.array(best)).to_pylist())


def _key_text(values: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={_value_text(value)}" for name, value in values.items())


def _value_text(value: Value) -> str:
    return "null" if value is None else number_text(value)
