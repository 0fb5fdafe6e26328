"""Checks of a night's table that are the same wherever it lies, and how a failed check reads."""

from collections.abc import Iterable
from typing import Any

from beam_jobs.warehouses.base import Check, Column, Night, NightRecord
from beam_jobs.warehouses.changes_view import taken_names
from beam_jobs.warehouses.published_tables import HISTORY_COLUMNS
from configs.errors import JobError, RefusedError


def check_names(night: Night) -> None:
    """No column has a name that `<job>_history` or `<job>_changes` needs.

    Raises:
        JobError: one has.
    """
    taken = [column.name for column in night.columns if column.name.lower() in HISTORY_COLUMNS]
    if taken:
        raise JobError(
            f"column {taken[0]!r}: the name is taken by {night.job}_history; rename the feature or the label"
        )
    if taken := taken_names(night.columns):
        raise JobError(
            f"column {taken[0]!r}: the name is taken by {night.job}_changes; rename the feature or the label"
        )


def check_schema(night: Night, previous: NightRecord | None) -> Check:
    """The columns are those of the night that readers see, in its order.

    Raises:
        RefusedError: they are not, and nobody accepted that.
    """
    if previous is None:
        return Check("schema", "the first night")
    old = {column.name: f"{column.type} {column.role}" for column in previous.columns}
    new = {column.name: f"{column.type} {column.role}" for column in night.columns}
    difference = first_difference(old, new)
    if difference is None:
        return Check("schema", f"as on {previous.run_date}")
    finding = f"{difference} (the published night of {previous.run_date})"
    if reason := night.accepted.get("schema"):
        return Check("schema", finding, accepted=reason)
    raise refused("schema", finding, "if it is meant, set publish.allow_schema_change: true")


def first_difference(old: dict[str, str], new: dict[str, str]) -> str | None:
    """The first difference between two schemas, as types by name, or None."""
    for name in old:
        if name not in new:
            return f"column {name!r} is gone"
    for name, column_type in new.items():
        if name not in old:
            return f"column {name!r} ({column_type}) is new"
        if old[name] != column_type:
            return f"column {name!r} is {column_type}, was {old[name]}"
    return None if list(old) == list(new) else f"columns are in the order {', '.join(new)}, were {', '.join(old)}"


def key_text(key: Iterable[tuple[Column, Any]]) -> str:
    """A key, for a message."""
    return " ".join(f"{column.name}={'NULL' if value is None else repr(value)}" for column, value in key)


def refused(check: str, problem: str, mend: str = "") -> RefusedError:
    """The error of a failed check."""
    return RefusedError(f"check {check!r} failed: {problem}" + (f"; {mend}" if mend else ""))
