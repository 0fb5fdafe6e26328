"""`<job>_changes`, the view of what the night that readers see changed: old and new answer of each key.

It compares the current night with the one that readers saw when it came, which is the comparison that the night passed
before it was shown. After a rollback it is the comparison of the night that readers see again. Any difference counts,
whatever the budget's threshold; where the answer is an array of other length, too.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from beam_jobs.warehouses.base import Column, NightRecord
from beam_jobs.warehouses.changes import common_outputs, why_incomparable
from beam_jobs.warehouses.dialects import Dialect

CHANGES_COLUMNS = ("change_kind", "run_date", "run_date_before")


def before_column(output: str) -> str:
    """The column of an output's earlier value."""
    return f"{output}_before"


def taken_names(columns: Sequence[Column]) -> list[str]:
    """Columns of a night whose names `<job>_changes` needs."""
    needed = {*CHANGES_COLUMNS, *(before_column(column.name) for column in columns if column.role == "output")}
    return [column.name for column in columns if column.name.lower() in needed]


@dataclasses.dataclass(frozen=True)
class ChangesView:
    """The view of a night's changes.

    Attributes:
        select: its SQL.
        comment: what it is.
        columns: its columns with their descriptions.
    """

    select: str
    comment: str
    columns: tuple[Column, ...]


def changes_view(
    record: NightRecord, before: NightRecord | None, dialect: Dialect, table_of: Callable[[NightRecord], str]
) -> ChangesView:
    """The view `<job>_changes` while readers see `record`.

    Args:
        before: the night that it was compared with, if its rows are still there.
        table_of: SQL of a night's rows.
    """
    keys = [column for column in record.columns if column.role == "key"]
    if before is not None and why_incomparable(record.columns, before.columns) is not None:
        before = None
    outputs = common_outputs(record.columns, before.columns if before is not None else record.columns)
    selects = list(_selects(record, before, keys, outputs, dialect, table_of))
    if before is None:
        comment = f"Nothing: there is no night to compare that of {record.run_date} with"
    else:
        comment = (
            f"What the night of {record.run_date} changed against that of {before.run_date}: keys with another answer, "
            "new keys, and keys that are gone"
        )
    return ChangesView(" UNION ALL ".join(selects), comment, tuple(_columns(keys, outputs)))


def _columns(keys: Sequence[Column], outputs: Sequence[Column]) -> Iterator[Column]:
    yield from keys
    yield Column("change_kind", "string", "feature", "changed, new (no answer before) or gone (no answer any more)")
    for output in outputs:
        about = output.description or output.name
        yield dataclasses.replace(output, name=before_column(output.name), description=f"Before: {about}")
        yield dataclasses.replace(output, description=f"Now: {about}")
    yield Column("run_date_before", "string", "feature", "Date of the night before")
    yield Column("run_date", "string", "feature", "Date of the night that readers see")


def _selects(
    record: NightRecord,
    before: NightRecord | None,
    keys: Sequence[Column],
    outputs: Sequence[Column],
    dialect: Dialect,
    table_of: Callable[[NightRecord], str],
) -> Iterator[str]:
    def quoted(table: str, column: Column) -> str:
        return f"{table}.{dialect.quote(column.name)}"

    def select(kind: str, *tables: str) -> str:
        """The view's columns, from one of the tables or from both; NULL of a table that is not there."""

        def value(table: str, column: Column) -> str:
            is_there = table in tables
            return quoted(table, column) if is_there else dialect.null(column.type, column.role == "output")

        chosen = [f"{value(tables[0] if tables else '', key)} AS {dialect.quote(key.name)}" for key in keys]
        chosen.append(f"{dialect.literal(kind)} AS change_kind")
        for output in outputs:
            chosen.append(f"{value('earlier', output)} AS {dialect.quote(before_column(output.name))}")
            chosen.append(f"{value('tonight', output)} AS {dialect.quote(output.name)}")
        date_before = f"DATE '{before.run_date}'" if before is not None else "CAST(NULL AS DATE)"
        chosen += [f"{date_before} AS run_date_before", f"DATE '{record.run_date}' AS run_date"]
        return f"SELECT {', '.join(chosen)}"

    if before is None:
        yield f"{select('')} FROM (SELECT 1) AS nothing WHERE FALSE"
        return
    now_rows, before_rows = f"{table_of(record)} AS tonight", f"{table_of(before)} AS earlier"
    same_key = " AND ".join(dialect.same_key(quoted("tonight", key), quoted("earlier", key), key.type) for key in keys)
    differs = " OR ".join(
        dialect.differs(quoted("tonight", output), quoted("earlier", output), output.type) for output in outputs
    )
    yield (
        f"{select('changed', 'tonight', 'earlier')} FROM {now_rows} JOIN {before_rows} ON {same_key} "
        f"WHERE {differs or 'FALSE'}"
    )
    if record.space_hash == before.space_hash:
        return  # one space, one set of keys
    for kind, rows, others in (("new", now_rows, before_rows), ("gone", before_rows, now_rows)):
        table = "tonight" if kind == "new" else "earlier"
        yield f"{select(kind, table)} FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM {others} WHERE {same_key})"
