"""The SQL of a DuckDB catalog: views over the nights' shards, what readers see of them, and the comments on it all."""

import itertools
from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from beam_jobs.warehouses.base import Column, NightRecord
from beam_jobs.warehouses.changes_view import changes_view
from beam_jobs.warehouses.dialects import Dialect
from beam_jobs.warehouses.published_tables import (
    RUNS_COMMENTS,
    history_comment,
    newest_first,
    night_comment,
    one_a_date,
    runs_comment,
)


def quote(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def select_list(columns: Iterable[Column]) -> str:
    """The columns' names, for SELECT."""
    return ", ".join(quote(column.name) for column in columns)


def scan(paths: Sequence[str]) -> str:
    """The rows of these Parquet files, one file after the other. A folder named `a=b` on the way is no column."""
    return f"read_parquet([{', '.join(map(literal, paths))}], hive_partitioning = false)"


def create_views(connection: duckdb.DuckDBPyConnection, nights: Sequence[tuple[NightRecord, tuple[str, ...]]]) -> None:
    """Makes the views and tables of all jobs.

    Args:
        nights: on record, each with the paths of its shards; expired and lost ones appear in `<job>_runs` only.
    """
    for job, group in itertools.groupby(sorted(nights, key=lambda night: night[0].job), key=lambda night: night[0].job):
        job_nights = list(group)
        readable = [(record, shards) for record, shards in job_nights if record.status in ("current", "kept")]
        for record, shards in readable:
            source = f"SELECT {select_list(record.columns)} FROM {scan(shards)}"
            _create_view(connection, record.table, source, night_comment(record), record.columns)
            if record.is_current:
                source = f"SELECT {select_list(record.columns)} FROM {quote(record.table)}"
                _create_view(connection, f"{job}_predictions", source, night_comment(record), record.columns)
        if readable:
            _create_history(connection, job, [record for record, _ in readable])
        _create_changes(connection, job, [record for record, _ in readable])
        create_runs(connection, job, [record for record, _ in job_nights])


def create_runs(connection: duckdb.DuckDBPyConnection, job: str, records: Iterable[NightRecord]) -> None:
    """Makes `<job>_runs`, newest night first."""
    rows = pa.table(
        {
            name: pa.array([_runs_value(record, name) for record in newest_first(records)], arrow_type)
            for name, arrow_type in _RUNS_TYPES.items()
        }
    )
    table = f"{job}_runs"
    connection.register("runs_to_record", rows)
    connection.execute(f"CREATE TABLE {quote(table)} AS FROM runs_to_record")
    connection.unregister("runs_to_record")
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS {literal(runs_comment(job))}")
    _comment_columns(connection, table, RUNS_COMMENTS)


def create_predictions_table(connection: duckdb.DuckDBPyConnection, record: NightRecord, source: str) -> None:
    """Makes `<job>_predictions` as a table of its own, with all rows of `source`, in its order."""
    table = f"{record.job}_predictions"
    connection.execute(f"CREATE TABLE {quote(table)} AS SELECT {select_list(record.columns)} FROM {source}")
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS {literal(night_comment(record))}")
    _comment_columns(connection, table, {column.name: column.description for column in record.columns})


def _create_history(connection: duckdb.DuckDBPyConnection, job: str, records: Sequence[NightRecord]) -> None:
    latest = one_a_date(records)
    selects = [
        f"SELECT DATE {literal(record.run_date.isoformat())} AS run_date, {literal(record.run_id)} AS run_id, "
        f"{select_list(record.columns)} FROM {quote(record.table)}"
        for record in latest
    ]
    comments = [Column("run_date", "string", "key", "Date of the night"), Column("run_id", "string", "key", "Its run")]
    columns = {column.name: column for record in latest for column in record.columns}
    _create_view(
        connection,
        f"{job}_history",
        " UNION ALL BY NAME ".join(selects),
        history_comment(job),
        [*comments, *columns.values()],
    )


def _create_changes(connection: duckdb.DuckDBPyConnection, job: str, records: Sequence[NightRecord]) -> None:
    current = next((record for record in records if record.is_current), None)
    if current is not None:
        before = next((record for record in records if record.table == current.compared_with), None)
        view = changes_view(current, before, Dialect(), lambda record: quote(record.table))
        _create_view(connection, f"{job}_changes", view.select, view.comment, view.columns)


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, select: str, comment: str, columns: Iterable[Column]
) -> None:
    connection.execute(f"CREATE VIEW {quote(name)} AS {select}")
    connection.execute(f"COMMENT ON VIEW {quote(name)} IS {literal(comment)}")
    _comment_columns(connection, name, {column.name: column.description for column in columns})


def _comment_columns(connection: duckdb.DuckDBPyConnection, table: str, comments: dict[str, str]) -> None:
    for column, comment in comments.items():
        if comment:
            connection.execute(f"COMMENT ON COLUMN {quote(table)}.{quote(column)} IS {literal(comment)}")


def _runs_value(record: NightRecord, name: str) -> object:
    if name == "table_name":
        return record.table
    if name == "published_at":
        return record.published_at.replace(tzinfo=None)
    value = getattr(record, name)
    return list(value.items()) if name in ("metrics", "accepted") else value


_RUNS_TYPES = {name: pa.string() for name in RUNS_COMMENTS} | {
    "run_date": pa.date32(),
    "rows": pa.int64(),
    "excluded": pa.int64(),
    "published_at": pa.timestamp("us"),
    "metrics": pa.map_(pa.string(), pa.float64()),
    "accepted": pa.map_(pa.string(), pa.string()),
}
