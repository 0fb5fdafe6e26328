"""Contracts and changes of nights whose tables are Parquet shards, computed by DuckDB in bounded memory."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from beam_jobs.warehouses.base import Night, NightRecord
from beam_jobs.warehouses.changes import Changes, Comparison
from beam_jobs.warehouses.contracts import Ask, Violations, count_violations
from beam_jobs.warehouses.dialects import Dialect
from beam_jobs.warehouses.duckdb.catalog import connect_in_memory
from beam_jobs.warehouses.duckdb.views import scan, select_list
from beam_jobs.warehouses.joined_tables import JoinedTables
from configs.contracts import Contract
from configs.errors import ForetableError, JobError

# Joins and windows over more rows than fit go to the disk.
MEMORY_LIMIT = "1200MB"
# What an exact quantile holds in memory, which does not go to the disk: 8 bytes for each, so 400 MB.
MOST_QUANTILE_VALUES = 50_000_000


def check_contracts(night: Night, paths: Sequence[str], contracts: Mapping[str, Contract]) -> tuple[Violations, ...]:
    """Holds the shards' rows against contracts.

    Raises:
        JobError: a contract does not fit the table.
    """
    with _asking() as ask:
        return count_violations(ask, Dialect(), scan(paths), night.columns, contracts)


def compare(
    night: Night, paths: Sequence[str], before: NightRecord, paths_before: Sequence[str], comparison: Comparison
) -> Changes:
    """Compares the shards' rows with those of another night: by place where both lie in one space, else by key."""
    columns = [column for column in night.columns if column.role != "feature"]
    tables = tuple(
        f"(SELECT {select_list(columns_of)} FROM {scan(shards)})"
        for columns_of, shards in ((columns, paths), (_also_in(before, columns), paths_before))
    )
    values = night.manifest.rows * (1 + len(comparison.slices)) * len(comparison.outputs)
    quantile_rows = -(-values // MOST_QUANTILE_VALUES) or 1
    keys = [f"key_{index}" for index, column in enumerate(night.columns) if column.role == "key"]
    sample = f"hash({', '.join(keys)}) % {quantile_rows} = 0" if quantile_rows > 1 else None
    with _asking() as ask:
        joined = JoinedTables(ask, Dialect(), (tables[0], tables[1]), night.columns, comparison)
        if before.space_hash == night.manifest.space_hash and before.rows == night.manifest.rows:
            changes = joined.compare_by_place(quantile_rows, sample)
            if changes is not None:
                return changes
        return joined.compare_by_key(quantile_rows, sample)


def _also_in(before: NightRecord, columns: Sequence[Any]) -> list[Any]:
    names = {column.name for column in before.columns}
    return [column for column in columns if column.name in names]


@contextlib.contextmanager
def _asking() -> Iterator[Ask]:
    with connect_in_memory() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET enable_progress_bar = false")

        def ask(sql: str) -> list[dict[str, Any]]:
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        try:
            yield ask
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise JobError(f"publish: a contract's condition does not work: {_line(error)}") from error
        except duckdb.OutOfMemoryException as error:
            raise ForetableError(
                f"publish: DuckDB needs more than {MEMORY_LIMIT} to compare: {_line(error)}"
            ) from error
        except duckdb.Error as error:
            raise ForetableError(f"publish: DuckDB cannot read the tables: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split("LINE ")[0].split())
