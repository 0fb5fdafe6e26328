"""What one night's table changes against another's: what is asked, and what is answered."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from beam_jobs.warehouses.base import Cell, Column, Value


@dataclasses.dataclass(frozen=True)
class ComparedOutput:
    """An output of the model, and what counts as a change of it.

    Attributes:
        columns: of both tables: one, or one for each class.
        threshold: a number has changed where it moved by more than this; of several columns or an array, any of them.
        is_class: it has changed where it is another, which is a flip.
    """

    name: str
    columns: tuple[str, ...]
    threshold: float = 0.0
    is_class: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is asked about two nights.

    Attributes:
        outputs: that both have, in the same types.
        slices: each some key columns, by whose values the changes are told too.
    """

    outputs: tuple[ComparedOutput, ...]
    slices: tuple[tuple[str, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class OutputChange:
    """How much an output changed over some rows that both nights have.

    Attributes:
        changed: rows in which it moved by more than its threshold; of a class, flips.
        mean: of the change, tonight's value less the one before; of several columns or an array, of the largest change
            among them. None of a class, or without rows.
        mean_absolute: of the change's size.
        quantiles: of the change, by percent; the first is the lowest and the last the highest.
    """

    changed: int
    mean: float | None = None
    mean_absolute: float | None = None
    quantiles: Mapping[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SliceChange:
    """What changed in a slice: rows in both tables, in the new one only, in the old one only, and each output."""

    slice: Mapping[str, Value]
    common: int
    new: int
    gone: int
    outputs: Mapping[str, OutputChange]


@dataclasses.dataclass(frozen=True)
class Mover:
    """A row that moved far, with every output of it in both nights, by column.

    Attributes:
        change: of the output by which it was found; None of a class.
    """

    change: float | None
    key: Mapping[str, Value]
    before: Mapping[str, Cell]
    now: Mapping[str, Cell]


@dataclasses.dataclass(frozen=True)
class Changes:
    """What a night's table changes against another's.

    Attributes:
        joined_by: rows were found by their key, or by their place where both tables have one space.
        overall: over all rows.
        slices: in no promised order.
        movers: by output, at most twenty, the farthest first; of a class, flips in the order of their keys.
        new_keys: some keys that only the new table has.
        gone_keys: some keys that only the old table has.
        quantile_rows: one row in so many counts for the quantiles but the lowest and the highest value, to bound the
            memory that they take.
    """

    joined_by: Literal["key", "place"]
    overall: SliceChange
    slices: tuple[SliceChange, ...]
    movers: Mapping[str, tuple[Mover, ...]]
    new_keys: tuple[Mapping[str, Value], ...] = ()
    gone_keys: tuple[Mapping[str, Value], ...] = ()
    quantile_rows: int = 1


def why_incomparable(now: Sequence[Column], before: Sequence[Column]) -> str | None:
    """Why no row of one table can be found in the other, or None: their keys are other columns."""
    keys = [sorted((c.name, c.type) for c in columns if c.role == "key") for columns in (now, before)]
    if keys[0] == keys[1]:
        return None
    texts = [", ".join(f"{name} {column_type}" for name, column_type in key) for key in keys]
    return f"the key is {texts[0]}, it was {texts[1]}"


def common_outputs(now: Sequence[Column], before: Sequence[Column]) -> tuple[Column, ...]:
    """Outputs that both tables have in the same type, in tonight's order."""
    earlier = {(column.name, column.type) for column in before if column.role == "output"}
    return tuple(column for column in now if column.role == "output" and (column.name, column.type) in earlier)
