"""The SQL of a DuckDB catalog: views over the nights' shards, what readers see of them, and the comments on it all."""

import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter

import duckdb
import pyarrow as pa

from beam_jobs.warehouses.base import Column, NightRecord

# In front of a night's columns in `<job>_history`; no column of a job may have these names.
HISTORY_COLUMNS = ("run_date", "run_id")
_RUNS_COMMENTS = {
    "run_date": "Date of the night",
    "run_id": "Derived from the job, its sources, the code and the date",
    "status": "current: what <job>_predictions shows; kept: can be rolled back to; expired; lost: files are gone",
    "rows": "Rows of the table: points of the input space less the excluded ones",
    "excluded": "Points that the job's exclude condition takes away",
    "model_version": "Digest of the model's weights",
    "transform_hash": "Digest of the transform graph",
    "space_hash": "Digest of the input space",
    "published_at": "When readers first saw it, in UTC",
    "table_name": "The night's own table",
    "run_dir": "The run directory",
    "metrics": "Metrics of the model on the whole eval split",
    "accepted": "Checks that somebody let this night fail, each with the reason",
}


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
            _create_view(connection, record.table, source, _night_comment(record), record.columns)
            if record.is_current:
                source = f"SELECT {select_list(record.columns)} FROM {quote(record.table)}"
                _create_view(connection, f"{job}_predictions", source, _night_comment(record), record.columns)
        if readable:
            _create_history(connection, job, [record for record, _ in readable])
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
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS {literal(f'Every published night of {job}')}")
    _comment_columns(connection, table, _RUNS_COMMENTS)


def create_predictions_table(connection: duckdb.DuckDBPyConnection, record: NightRecord, shards: Sequence[str]) -> None:
    """Makes `<job>_predictions` as a table of its own, with all rows, in the shards' order."""
    table = f"{record.job}_predictions"
    connection.execute(f"CREATE TABLE {quote(table)} AS SELECT {select_list(record.columns)} FROM {scan(shards)}")
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS {literal(_night_comment(record))}")
    _comment_columns(connection, table, {column.name: column.description for column in record.columns})


def newest_first(records: Iterable[NightRecord]) -> tuple[NightRecord, ...]:
    """The records by falling date, and those of one date by falling time of publishing."""
    return tuple(sorted(records, key=attrgetter("run_date", "published_at"), reverse=True))


def _create_history(connection: duckdb.DuckDBPyConnection, job: str, records: Sequence[NightRecord]) -> None:
    # One run a date, the one published last: a date's key would otherwise have two answers.
    latest = {record.run_date: record for record in reversed(newest_first(records))}
    selects = [
        f"SELECT DATE {literal(record.run_date.isoformat())} AS run_date, {literal(record.run_id)} AS run_id, "
        f"{select_list(record.columns)} FROM {quote(record.table)}"
        for record in latest.values()
    ]
    comments = [Column("run_date", "string", "key", "Date of the night"), Column("run_id", "string", "key", "Its run")]
    columns = {column.name: column for record in latest.values() for column in record.columns}
    comment = f"The nights of {job} that are kept, one run for each date"
    _create_view(
        connection, f"{job}_history", " UNION ALL BY NAME ".join(selects), comment, [*comments, *columns.values()]
    )


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


def _night_comment(record: NightRecord) -> str:
    night = f"Night of {record.run_date}, run {record.run_id}, model {record.model_version}"
    return f"{record.description.strip()} ({night})" if record.description.strip() else night


def _runs_value(record: NightRecord, name: str) -> object:
    if name == "table_name":
        return record.table
    if name == "published_at":
        return record.published_at.replace(tzinfo=None)
    value = getattr(record, name)
    return list(value.items()) if name in ("metrics", "accepted") else value


_RUNS_TYPES = {name: pa.string() for name in _RUNS_COMMENTS} | {
    "run_date": pa.date32(),
    "rows": pa.int64(),
    "excluded": pa.int64(),
    "published_at": pa.timestamp("us"),
    "metrics": pa.map_(pa.string(), pa.float64()),
    "accepted": pa.map_(pa.string(), pa.string()),
}
