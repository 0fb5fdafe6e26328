"""Prediction tables in a BigQuery dataset: a table a night, and views that show readers one of them.

`loading` makes a night's table, `verification` proves it, `nights` shows it to readers.
"""

import dataclasses
import datetime
import pathlib
from collections.abc import Mapping

import pyarrow as pa
from google.cloud import bigquery

from beam_jobs.published_axes import read_axes
from beam_jobs.warehouses.base import Cell, Night, NightRecord, Value, Verification
from beam_jobs.warehouses.bigquery import checks as bigquery_checks
from beam_jobs.warehouses.bigquery import sql as bigquery_sql
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.loading import PREDICTIONS_FOLDER, load_shards, night_table
from beam_jobs.warehouses.bigquery.nights import Nights
from beam_jobs.warehouses.bigquery.reading import arrow_of, night_batches
from beam_jobs.warehouses.bigquery.verification import verify_loaded
from beam_jobs.warehouses.changes import Changes, Comparison
from beam_jobs.warehouses.checks import check_names
from beam_jobs.warehouses.contracts import Violations
from beam_jobs.warehouses.key_query import BigQueryKeys, key_query
from beam_jobs.warehouses.published_tables import newest_first, past_retention
from beam_jobs.workspace import storage
from configs import cloud
from configs.contracts import Contract
from configs.errors import ForetableError, JobError, RefusedError

EXAMPLE_ROW = 10_000
# Files of an expired night that say that its predictions are there; they go first, so that a rerun makes them anew.
_MARKERS = ("published.json", "manifest.json", "shards.json")


class BigQueryWarehouse:
    """A `Warehouse` in one dataset, which several jobs may share.

    Attributes:
        location: `project.dataset`.
    """

    def __init__(self, warehouse: cloud.BigQueryWarehouse, endpoints: cloud.Endpoints, retention_days: int):
        self._dataset = Dataset(warehouse, endpoints)
        self._endpoints = endpoints
        self._retention_days = retention_days
        self.location = self._dataset.name

    def check(self) -> None:
        """The dataset is there, in the location of the job file, and the project may run jobs."""
        self._dataset.check()

    def load(self, night: Night) -> str:
        """Loads the shards into a table that nobody reads yet, and that goes by itself if nobody ever will."""
        check_names(night)
        bigquery_sql.check_names(night)
        self._nights(night.job).make()
        name = night_table(self._dataset, night)
        load_shards(self._dataset, night, name)
        return name

    def verify(self, night: Night) -> Verification:
        """Proves in one query that the table holds each point of the space once, with a prediction."""
        return verify_loaded(self._dataset, night, night_table(self._dataset, night), self.before(night))

    def before(self, night: Night) -> NightRecord | None:
        """The night that readers see; where that is this very one, the one that it was compared with."""
        records = {record.table: record for record in self.runs(night.job)}
        current = next((record for record in records.values() if record.is_current), None)
        if current is None or (current.run_date, current.run_id) != (night.run_date, night.run_id):
            return current
        earlier = records.get(current.compared_with or "")
        return earlier if earlier is not None and earlier.status == "kept" else None

    def check_contracts(self, night: Night, contracts: Mapping[str, Contract]) -> tuple[Violations, ...]:
        """Holds the loaded table against contracts."""
        table = night_table(self._dataset, night)
        return bigquery_checks.check_contracts(self._dataset, table, night.columns, contracts)

    def compare(self, night: Night, before: NightRecord, comparison: Comparison) -> Changes:
        """Compares the loaded table with an earlier night's."""
        table = night_table(self._dataset, night)
        return bigquery_checks.compare(self._dataset, table, night.columns, before, comparison)

    def switch(self, night: Night) -> NightRecord:
        """Records the night and shows it to readers, by one statement; a night older than theirs is only kept."""
        table = night_table(self._dataset, night)
        record = dataclasses.replace(NightRecord.of(night, datetime.datetime.now(datetime.UTC)), table=table)
        return self._nights(night.job).add(record)

    def current(self, job: str) -> NightRecord | None:
        """The night that readers see."""
        return self._nights(job).current()

    def runs(self, job: str) -> tuple[NightRecord, ...]:
        """Every night on record, newest first."""
        return newest_first(self._nights(job).records())

    def rollback(self, job: str, run_date: datetime.date) -> NightRecord:
        """Shows readers a kept night again, by one statement."""
        kept = [record for record in self.runs(job) if record.status in ("current", "kept")]
        of_date = [record for record in kept if record.run_date == run_date]
        if not of_date:
            dates = ", ".join(sorted({record.run_date.isoformat() for record in kept})) or "none"
            raise RefusedError(f"{job}: no night of {run_date} is kept; kept: {dates}")
        nights, record = self._nights(job), max(of_date, key=lambda record: record.published_at)
        before = nights.current()
        shown = nights.show(record)
        if shown.status != "lost":
            return shown
        # `expire` deleted the table after we had seen it. We go back, unless readers see another one by now.
        seen = nights.current()
        if before is not None and (seen is None or seen.table == record.table):
            nights.show(before)
        raise RefusedError(
            f"{job}: {self._dataset.path(record.table)} of {run_date} was deleted meanwhile, as its retention is over; "
            f"readers see {before.run_date if before is not None else 'no night'}"
        )

    def expire(self, job: str, today: datetime.date, retention_days: int) -> tuple[NightRecord, ...]:
        """Marks old nights as gone, takes them out of the history, then deletes their tables and shards.

        One that a rollback shows to readers meanwhile stays.
        """
        due = past_retention(self.runs(job), today, retention_days)
        nights, gone = self._nights(job), []
        for record in nights.take_out(due):
            if not nights.shows(record):
                _delete_shards(record.run_dir)
            if not nights.shows(record):  # shards may take a while
                self._dataset.delete(record.table)
                gone.append(record)
        return newest_first(gone)

    def row(self, record: NightRecord, key: Mapping[str, Value], position: int) -> dict[str, Cell] | None:
        """The row with exactly these key values; `position` is of no use, because the table has no order."""
        del position
        types = {column.name: column.type for column in record.columns}
        conditions, parameters = [], []
        for index, (name, value) in enumerate(key.items()):
            column = bigquery_sql.quote(name)
            conditions.append(f"{column} IS NULL" if value is None else f"{column} = @key_{index}")
            if value is not None:
                parameters.append(bigquery_sql.parameter(f"key_{index}", value, types[name]))
        select = bigquery_sql.select_night(record, self._dataset.path(record.table))
        rows = list(self._dataset.select(f"{select} WHERE {' AND '.join(conditions)}", parameters))
        if len(rows) > 1:
            raise ForetableError(f"{record.table}: {len(rows)} rows of the key {dict(key)!r}; publish the night again")
        return dict(rows[0]) if rows else None

    def query_bytes(self, sql: str) -> int | None:
        """Bytes that the query would read, which is what BigQuery bills; nothing is read to tell."""
        return int(self._checked(sql).total_bytes_processed or 0)

    def query(self, sql: str) -> pa.Table:
        """Answers one SELECT over the dataset, or over any table that the credentials may read."""
        self._checked(sql)
        return arrow_of(self._dataset, self._dataset.select(sql), self._endpoints)

    def key_query(self, record: NightRecord) -> str:
        """GoogleSQL that answers a key, to start from."""
        (row,) = self._dataset.rows(record.table, min(record.rows // 2, EXAMPLE_ROW), 1)
        return key_query(record, read_axes(record), row, BigQueryKeys(self._dataset.name))

    def export(self, job: str, path: str, force: bool = False) -> int:
        """Writes the current table and `<job>_runs` into a DuckDB file of its own, in no order of rows."""
        from beam_jobs.warehouses.duckdb.export import export_night

        record = self.current(job)
        if record is None:
            raise RefusedError(f"nothing of {job} is published yet, so there is nothing to export")
        batches = night_batches(self._dataset, record, self._endpoints)
        export_night(record, batches, self.runs(job), pathlib.Path(path), force)
        return record.rows

    def _nights(self, job: str) -> Nights:
        return Nights(self._dataset, job, self._retention_days)

    def _checked(self, sql: str) -> bigquery.QueryJob:
        try:
            job = self._dataset.dry_run(sql)
        except ForetableError as error:
            raise JobError(f"{sql!r}: {error}") from error
        if job.statement_type != "SELECT":
            raise JobError(f"{sql!r}: expected one SELECT: the warehouse is read-only here")
        return job


def _delete_shards(run_dir: str) -> None:
    names = {path.rpartition("/")[2] for path in storage.list_files(run_dir)}
    storage.remove_all_but(run_dir, names.difference(_MARKERS))
    storage.remove_all_but(storage.join(run_dir, PREDICTIONS_FOLDER), ())
