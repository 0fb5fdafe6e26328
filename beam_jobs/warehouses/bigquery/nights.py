"""The nights of a job on record, which of them readers see, and all that follows from that.

The view is the truth about what readers see; `<job>_runs` says the rest. A night is put on record, and its expiry is
lifted, before the view is switched to it. So wherever a night is killed, readers have a whole table that stays, and
what is not settled then is settled by the next that publishes, or by the same one again.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.bigquery.checks import changes_definition
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.runs import Runs
from beam_jobs.warehouses.bigquery.sql import label_value, select_history, select_night
from beam_jobs.warehouses.bigquery.views import Definition, View, read_view, replace_view
from beam_jobs.warehouses.published_tables import history_comment, night_comment

GRACE_DAYS = 14
"""A night deletes tables after their retention; BigQuery does so these days later, where no night runs any more."""


class Nights:
    """The nights of one job.

    Attributes:
        view_name: of the view that readers see.
    """

    def __init__(self, dataset: Dataset, job: str, retention_days: int):
        self.view_name = f"{job}_predictions"
        self._dataset = dataset
        self._job = job
        self._retention_days = retention_days
        self._runs = Runs(dataset, job)

    def make(self) -> None:
        """Makes `<job>_runs`, unless it is there.

        Raises:
            RefusedError: what is there is somebody else's.
        """
        self._runs.make()

    def add(self, record: NightRecord) -> NightRecord:
        """Records the night and shows it to readers, unless they see a newer one; returns it as it is then."""
        self._runs.add(record)
        return self._show(record, over_newer=False)

    def show(self, record: NightRecord) -> NightRecord:
        """Shows readers a night on record; returns it as it is then."""
        return self._show(record, over_newer=True)

    def shows(self, record: NightRecord) -> bool:
        """Whether readers see this night now."""
        return read_view(self._dataset, self.view_name).table == record.table

    def current(self) -> NightRecord | None:
        """The night that readers see."""
        view = read_view(self._dataset, self.view_name)
        for record in self._runs.read() if view.table is not None else ():
            if record.table == view.table:
                return dataclasses.replace(record, status="current")
        return None

    def records(self) -> list[NightRecord]:
        """Every night on record: what readers see by the view, what is lost by the tables that are there."""
        shown = read_view(self._dataset, self.view_name).table
        records = self._runs.read()
        return _standing(records, shown, self._dataset.tables())  # listed last: a table is there before its record

    def take_out(self, due: Sequence[NightRecord]) -> list[NightRecord]:
        """Marks nights as expired and takes them out of the history; returns all that have expired and have a table."""
        if due:
            self._runs.set_expired([record.table for record in due])
            self._settle()
        expired = [record for record in self.records() if record.status == "expired"]
        tables = self._dataset.tables() if expired else {}
        return [record for record in expired if record.table in tables]

    def _show(self, record: NightRecord, over_newer: bool) -> NightRecord:
        while True:
            view = read_view(self._dataset, self.view_name)
            if view.table == record.table or (not over_newer and self._is_newer(view, record)):
                break
            self._dataset.set_expiry(record.table, None)
            select = select_night(record, self._dataset.path(record.table))
            labels = {"run_id": record.run_id, "model_version": record.model_version, "foretable_job": record.job}
            pairs = tuple((key, label_value(value)) for key, value in labels.items())
            if replace_view(self._dataset, view, Definition(select, record.columns, night_comment(record), pairs)):
                break
        return next(settled for settled in self._settle() if settled.table == record.table)

    def _is_newer(self, view: View, record: NightRecord) -> bool:
        """Whether readers see a night of a later date; one whose table is gone, they do not."""
        if view.table is None:
            return False
        is_later = any(shown.table == view.table and shown.run_date > record.run_date for shown in self._runs.read())
        return is_later and self._dataset.table(view.table) is not None

    def _settle(self) -> list[NightRecord]:
        """Brings in line with the view what follows from it: `<job>_runs`, the other views, expiries."""
        while True:
            view = read_view(self._dataset, self.view_name)
            # Read before the records that they are to show: whoever replaces them has seen the latest.
            history, changes = (read_view(self._dataset, f"{self._job}_{name}") for name in ("history", "changes"))
            records = self._runs.read()
            if any((record.table == view.table) != record.is_current for record in records):
                self._runs.set_current(view.table)
                records = self._runs.read()
            standing = _standing(records, view.table, self._dataset.tables())
            is_settled = self._define(history, self._history(standing))
            is_settled &= self._define(changes, changes_definition(self._dataset, standing))
            self._settle_expiry(standing, self._dataset.tables())
            if is_settled and read_view(self._dataset, view.name).token == view.token:
                return standing

    def _define(self, view: View, definition: Definition | None) -> bool:
        """Replaces the view unless it is so already; returns whether it is."""
        if definition is None or view.content == definition.content:
            return True
        return replace_view(self._dataset, view, definition)

    def _history(self, records: Sequence[NightRecord]) -> Definition | None:
        kept = [record for record in records if record.status in ("current", "kept")]
        if not kept:
            return None
        select, columns = select_history(kept, self._dataset.name)
        return Definition(select, columns, history_comment(self._job), (("foretable_job", self._job),))

    def _settle_expiry(self, records: Sequence[NightRecord], tables: Mapping[str, Any]) -> None:
        """What readers see stays; what they may go back to stays for the retention and the grace at least."""
        stays = [self.view_name, f"{self._job}_history", f"{self._job}_changes", f"{self._job}_runs"]
        stays += [record.table for record in records if record.is_current]
        for name in stays:  # a dataset may give whatever is made in it an expiry
            if name in tables and tables[name].expires is not None:
                self._dataset.set_expiry(name, None)
        tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        for record in records:
            if record.is_current or record.table not in tables:
                continue
            expires, wanted = tables[record.table].expires, self._kept_until(record)
            if expires is None or (record.status == "kept" and expires < wanted):
                self._dataset.set_expiry(record.table, max(wanted, tomorrow))

    def _kept_until(self, record: NightRecord) -> datetime.datetime:
        since = max(record.run_date, record.published_at.date())
        last = since + datetime.timedelta(days=self._retention_days + GRACE_DAYS)
        return datetime.datetime.combine(last, datetime.time(), datetime.UTC)


def _standing(records: Sequence[NightRecord], shown: str | None, tables: Mapping[str, Any]) -> list[NightRecord]:
    """The records with the status that they have by what readers see, and by what is there."""
    standing = []
    for record in records:
        status = record.status
        if status in ("current", "kept"):
            status = "lost" if record.table not in tables else "current" if record.table == shown else "kept"
        standing.append(dataclasses.replace(record, status=status))
    return standing
