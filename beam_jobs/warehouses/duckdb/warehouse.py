"""Prediction tables in an embedded DuckDB catalog: the shards are the table, the catalog has views over them.

Publishing stores nothing twice and takes no longer for more rows, but for the scan that verifies them. Our own reads go
to a private catalog in memory, so that no analyst's lock can stop them.
"""

import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from beam_jobs.published_axes import read_axes
from beam_jobs.warehouses.base import Cell, Night, NightRecord, Value, Verification
from beam_jobs.warehouses.changes import Changes, Comparison
from beam_jobs.warehouses.contracts import Violations
from beam_jobs.warehouses.duckdb import checks as duckdb_checks
from beam_jobs.warehouses.duckdb.catalog import (
    Catalog,
    CatalogNight,
    Nights,
    Shard,
    connect_in_memory,
    private_connection,
)
from beam_jobs.warehouses.duckdb.export import export_night
from beam_jobs.warehouses.duckdb.verification import check_shards, verify_table
from beam_jobs.warehouses.duckdb.views import quote, scan, select_list
from beam_jobs.warehouses.key_query import key_query
from beam_jobs.warehouses.published_tables import newest_first, past_retention
from beam_jobs.workspace import storage
from configs.contracts import Contract
from configs.errors import ForetableError, JobError, RefusedError

PREDICTIONS_FOLDER = "predictions"
EXAMPLE_ROW = 10_000
# Files of an expired night that say that its predictions are there; they go first, so that a rerun makes them anew.
_MARKERS = ("published.json", "manifest.json")


class DuckDBWarehouse:
    """A `Warehouse` in one catalog file, which several jobs may share.

    Attributes:
        location: path of the catalog, absolute.
    """

    def __init__(self, path: str):
        if not storage.is_local(path):
            raise JobError(f"warehouse.path: {path!r}: expected a local path; DuckDB cannot write behind a URL")
        folder, name = os.path.split(path)
        self.location = str(pathlib.Path(folder).resolve() / name)  # the folder alone: the file itself is a link
        self._catalog = Catalog(pathlib.Path(self.location))

    def check(self) -> None:
        """The catalog, if there is one, is ours."""
        self._catalog.read()

    def load(self, night: Night) -> str:
        """Checks that the shards are there as in the manifest: they are the table already."""
        check_shards(night, _paths(night))
        return night.table

    def verify(self, night: Night) -> Verification:
        """Proves in one scan that the shards hold each point of the space once, with a prediction."""
        return verify_table(night, _paths(night), self.before(night))

    def before(self, night: Night) -> NightRecord | None:
        """The night that readers see; where that is this very one, from an earlier try, what it was compared with."""
        records = {record.table: record for record in self.runs(night.job) if record.status in ("current", "kept")}
        current = next((record for record in records.values() if record.is_current), None)
        if current is None or current.table != night.table:
            return current
        return records.get(current.compared_with or "")

    def check_contracts(self, night: Night, contracts: Mapping[str, Contract]) -> tuple[Violations, ...]:
        """Holds the shards against contracts."""
        return duckdb_checks.check_contracts(night, _paths(night), contracts)

    def compare(self, night: Night, before: NightRecord, comparison: Comparison) -> Changes:
        """Compares the shards with those of an earlier night."""
        paths_before = [shard.path for shard in self._night(before).shards]
        return duckdb_checks.compare(night, _paths(night), before, paths_before, comparison)

    def switch(self, night: Night) -> NightRecord:
        """Records the night and shows it to readers, by one rename; a night older than theirs is only kept."""
        now = datetime.datetime.now(datetime.UTC)
        shards = tuple(
            Shard(path, shard.first_block, shard.blocks)
            for path, shard in zip(_paths(night), night.manifest.shards, strict=True)
        )

        def record(nights: Nights) -> Nights:
            before = next((n for n in nights if n.record.table == night.table), None)
            current = _current(nights, night.job)
            is_late = current is not None and current.record.run_date > night.run_date
            status = "kept" if is_late else "current"
            # The same night again is the same state, to the byte.
            same = before is not None and before.record.status == status
            published_at = before.record.published_at if before is not None and same else now
            added = CatalogNight(NightRecord.of(night, published_at), shards, night.manifest.block_rows)
            others = tuple(n for n in nights if n is not before)
            return (*others, added) if is_late else _with_current((*others, added), added)

        nights = self._catalog.change(record)
        return next(n.record for n in nights if n.record.table == night.table)

    def current(self, job: str) -> NightRecord | None:
        """The night that readers see."""
        night = _current(self._catalog.read(), job)
        return night.record if night else None

    def runs(self, job: str) -> tuple[NightRecord, ...]:
        """Every night on record, newest first."""
        return newest_first(night.record for night in self._catalog.read() if night.record.job == job)

    def rollback(self, job: str, run_date: datetime.date) -> NightRecord:
        """Shows readers a kept night again, by one rename."""

        def point_back(nights: Nights) -> Nights:
            kept = [n for n in nights if n.record.job == job and n.record.status in ("current", "kept")]
            of_date = [n for n in kept if n.record.run_date == run_date]
            if not of_date:
                dates = ", ".join(sorted({n.record.run_date.isoformat() for n in kept})) or "none"
                raise RefusedError(f"{job}: no night of {run_date} is kept; kept: {dates}")
            return _with_current(nights, max(of_date, key=lambda n: n.record.published_at))

        night = _current(self._catalog.change(point_back), job)
        assert night is not None
        return night.record

    def expire(self, job: str, today: datetime.date, retention_days: int) -> tuple[NightRecord, ...]:
        """Takes old nights out of the catalog, then deletes their shards; the next try mends a kill in between."""

        def take_out(nights: Nights) -> Nights:
            due = past_retention([n.record for n in nights if n.record.job == job], today, retention_days)
            return tuple(_with(n, status="expired") if n.record in due else n for n in nights)

        expired = [
            n
            for n in self._catalog.change(take_out)
            if n.record.job == job and n.record.status == "expired" and n.shards
        ]
        for night in expired:
            _delete_files(night)
        self._catalog.change(
            lambda nights: tuple(dataclasses.replace(n, shards=()) if n in expired else n for n in nights)
        )
        return newest_first(night.record for night in expired)

    def row(self, record: NightRecord, key: Mapping[str, Value], position: int) -> dict[str, Cell] | None:
        """The row with exactly this key, from the one shard that it can be in."""
        night = self._night(record)
        block = position // night.block_rows
        paths = [s.path for s in night.shards if s.first_block <= block < s.first_block + s.blocks]
        if not paths:
            return None
        condition = " AND ".join(
            f"{quote(name)} {'IS NULL' if value is None else '= ?'}" for name, value in key.items()
        )
        query = f"SELECT {select_list(record.columns)} FROM {scan(paths)} WHERE {condition}"
        with connect_in_memory() as connection:
            rows = connection.execute(query, [value for value in key.values() if value is not None]).fetchall()
        if len(rows) > 1:
            raise ForetableError(f"{record.table}: {len(rows)} rows of the key {dict(key)!r}; publish the night again")
        return dict(zip([column.name for column in record.columns], rows[0], strict=True)) if rows else None

    def query_bytes(self, sql: str) -> None:
        """Nobody pays for what is read."""

    def query(self, sql: str) -> pa.Table:
        """Answers one SELECT over the views of every job in the catalog."""
        with private_connection(self._catalog.read()) as connection:
            try:
                statements = connection.extract_statements(sql)
                if len(statements) != 1 or not _only_reads(connection, statements[0]):
                    raise JobError(f"{sql!r}: expected one SELECT: the warehouse is read-only here")
                return connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                raise JobError(f"{sql!r}: {' '.join(str(error).split('LINE ')[0].split())}") from error

    def key_query(self, record: NightRecord) -> str:
        """DuckDB's SQL that answers a key, to start from."""
        offset = min(record.rows // 2, EXAMPLE_ROW)
        (row,) = self.query(f"SELECT * FROM {quote(record.table)} LIMIT 1 OFFSET {offset}").to_pylist()
        return key_query(record, read_axes(record), row)

    def export(self, job: str, path: str, force: bool = False) -> int:
        """Writes the current table and `<job>_runs` into a DuckDB file of its own."""
        nights = self._catalog.read()
        night = _current(nights, job)
        if night is None:
            raise RefusedError(f"nothing of {job} is published yet, so there is nothing to export")
        if os.path.realpath(path) == os.path.realpath(self.location):
            raise RefusedError(f"{path}: is the catalog itself; export to another file")
        records = [n.record for n in nights if n.record.job == job]
        export_night(night.record, [shard.path for shard in night.shards], records, pathlib.Path(path), force)
        return night.record.rows

    def _night(self, record: NightRecord) -> CatalogNight:
        for night in self._catalog.read():
            if night.record.table == record.table:
                return night
        raise ForetableError(f"{self.location}: has no night {record.table}")


def _paths(night: Night) -> list[str]:
    if not storage.is_local(night.run_dir):
        raise JobError(f"workspace: {night.run_dir!r}: expected a local folder for a duckdb warehouse")
    folder = pathlib.Path(night.run_dir).resolve() / PREDICTIONS_FOLDER
    return [str(folder / shard.name) for shard in night.manifest.shards]


def _current(nights: Nights, job: str) -> CatalogNight | None:
    return next((night for night in nights if night.record.job == job and night.record.is_current), None)


def _with(night: CatalogNight, **changes: Any) -> CatalogNight:
    return dataclasses.replace(night, record=dataclasses.replace(night.record, **changes))


def _with_current(nights: Nights, current: CatalogNight) -> Nights:
    """The nights, with `current` as the one that readers of its job see."""
    return tuple(
        _with(night, status="current")
        if night is current
        else _with(night, status="kept")
        if night.record.job == current.record.job and night.record.is_current
        else night
        for night in nights
    )


def _delete_files(night: CatalogNight) -> None:
    for name in _MARKERS:
        pathlib.Path(night.record.run_dir, name).unlink(missing_ok=True)
    for shard in night.shards:
        pathlib.Path(shard.path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files in the folder stay
        pathlib.Path(night.record.run_dir, PREDICTIONS_FOLDER).rmdir()


def _only_reads(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    if statement.type == duckdb.StatementType.EXPLAIN:  # EXPLAIN ANALYZE runs what it explains
        explained = re.sub(r"^\s*EXPLAIN(\s+ANALYZE)?\b", "", statement.query, flags=re.IGNORECASE)
        return [s.type for s in connection.extract_statements(explained)] == [duckdb.StatementType.SELECT]
    return statement.type == duckdb.StatementType.SELECT
