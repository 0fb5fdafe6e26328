"""What a row of examples must have, and how rows are sorted into good ones, a batch at a time, and bad ones.

Whatever a row can be set aside for is decided here, where the line it came from is still known.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import RefusedError
from configs.features import ColumnType
from transforms.columns import arrow_schema
from transforms.examples.readers.conversion import Converted, convert
from transforms.sql import evaluate_expression

BATCH_ROWS = 65_536
_MAX_SHOWN = 200


@dataclasses.dataclass(frozen=True, order=True)
class BadRow:
    """A row set aside.

    Attributes:
        file: or the table, or the query.
        line: physical line that it starts on in a text file, 1-based; elsewhere the row's number in the file, 1-based;
            0 where rows have no order.
        column: the one at fault; empty if it is the row as a whole.
        value: as text, shortened.
    """

    file: str
    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        column = f"{self.column}={self.value!r}: " if self.column else ""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {column}{self.reason}"


@dataclasses.dataclass(frozen=True)
class DerivedLabel:
    """A label that is made of other columns by a SQL expression."""

    name: str
    type: ColumnType
    expression: str


@dataclasses.dataclass(frozen=True)
class Expected:
    """What each row of examples must have.

    Attributes:
        columns: columns to read, with their types.
        required: columns that may not be missing, each with the reason to give for a row without it.
        label: made after the columns are read, and may not be missing either.
    """

    columns: Mapping[str, ColumnType]
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    label: DerivedLabel | None = None

    @property
    def schema(self) -> pa.Schema:
        """Of a batch of good rows; a derived label comes last."""
        derived = {self.label.name: self.label.type} if self.label else {}
        return arrow_schema({**self.columns, **derived})


def sort_rows(
    file: str,
    arrays: Mapping[str, pa.Array],
    expected: Expected,
    lines: np.ndarray,
    parse: Callable[[pa.Array, ColumnType], Converted] = convert,
) -> tuple[pa.RecordBatch, list[BadRow]]:
    """Converts columns and sorts their rows into good and bad.

    Args:
        file: name to report.
        arrays: the source's columns, `[num_rows]` each.
        expected: what each row must have.
        lines: `[num_rows]`, the line or number to report of each row.
        parse: converts one column.

    Returns:
        The good rows in `expected.schema`, and the bad ones, each once, with the first column at fault.
    """
    faults: dict[int, tuple[str, str, str]] = {}
    columns: dict[str, pa.Array] = {}
    for name, column_type in expected.columns.items():
        converted = parse(arrays[name], column_type)
        columns[name] = converted.values
        for row, reason in converted.faults.items():
            faults.setdefault(row, (name, _shown(arrays[name], row), reason))
    for name, reason in expected.required.items():
        for row in _missing_rows(columns[name]):
            faults.setdefault(row, (name, "", reason))
    if (label := expected.label) is not None:
        derived = evaluate_expression(label.expression, pa.RecordBatch.from_pydict(columns))
        converted = convert(derived, label.type)
        columns[label.name] = converted.values
        for row in _missing_rows(converted.values):
            reason = converted.faults.get(row, f"the label is missing: {label.expression} is null")
            faults.setdefault(row, (label.name, _shown(derived, row), reason))
    batch = pa.RecordBatch.from_arrays([columns[name] for name in expected.schema.names], schema=expected.schema)
    if not faults:
        return batch, []
    good = np.ones(batch.num_rows, bool)
    good[list(faults)] = False
    return batch.filter(pa.array(good)), [BadRow(file, int(lines[row]), *faults[row]) for row in sorted(faults)]


def exact_batches(
    pieces: Iterable[pa.RecordBatch | BadRow], batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch | BadRow]:
    """Cuts and joins batches of any size to `batch_rows` rows each, the last one excepted; bad rows pass at once."""
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for piece in pieces:
        if isinstance(piece, BadRow):
            yield piece
            continue
        while held_rows + piece.num_rows >= batch_rows:
            yield pa.concat_batches([*held, piece.slice(0, batch_rows - held_rows)])
            piece = piece.slice(batch_rows - held_rows)
            held, held_rows = [], 0
        if piece.num_rows:
            held.append(piece)
            held_rows += piece.num_rows
    if held:
        yield pa.concat_batches(held)


def check_columns(file: str, names: Iterable[str], expected: Expected) -> None:
    """Checks that a file has every column.

    Raises:
        RefusedError: one is not there, or is there twice.
    """
    known = list(names)
    for name in expected.columns:
        if name not in known:
            raise RefusedError(f"{file}: no column {name!r}; its columns are {', '.join(known)}")
        if known.count(name) > 1:
            raise RefusedError(f"{file}: column {name!r} is there {known.count(name)} times, expected once")


def _missing_rows(array: pa.Array) -> list[int]:
    return np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False)).tolist()


def _shown(array: pa.Array, row: int) -> str:
    value = array[row].as_py()
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return "" if value is None else str(value)[:_MAX_SHOWN]
