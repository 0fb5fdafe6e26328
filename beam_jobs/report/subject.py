"""What a report is about: one night's files, the nights around it, and its table in the warehouse."""

import dataclasses
import functools
from typing import Any

from beam_jobs.history import NightSummary, list_nights, summarize_night
from beam_jobs.published_axes import PublishedAxis, read_axes
from beam_jobs.report.feature_statistics import Datasets, FeatureStatistics, read_statistics
from beam_jobs.warehouses.base import Column, NightRecord, Warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.night_files import NightFiles

_MOST_READ = ("current", "kept")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One night, with what is needed to judge it.

    Attributes:
        job_file: as the user named it, for commands to copy.
        nights: the last ones, newest first, this one among them.
        warehouse: None where it cannot be opened.
        records: of the nights in it, newest first.
    """

    job_file: str
    files: NightFiles
    nights: tuple[NightSummary, ...]
    warehouse: Warehouse | None
    records: tuple[NightRecord, ...]

    @classmethod
    def of(cls, job_file: str, run_path: str, warehouse: Warehouse | None) -> "Subject":
        """Reads the run directory, those of the nights around it, and the warehouse's record of nights."""
        files = NightFiles.of(run_path)
        name = files.job.get("name", "")
        records = warehouse.runs(name) if warehouse is not None else ()
        return cls(job_file, files, tuple(list_nights(files.run.job_folder)), warehouse, records)

    @functools.cached_property
    def summary(self) -> NightSummary:
        """The night's numbers."""
        return summarize_night(self.files)

    @property
    def job(self) -> dict[str, Any]:
        """The resolved job."""
        return self.files.job

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.job.get("name", ""))

    @functools.cached_property
    def current(self) -> NightRecord | None:
        """The night that readers see now."""
        return next((record for record in self.records if record.is_current), None)

    @functools.cached_property
    def record(self) -> NightRecord | None:
        """This night's record, if its table can be read."""
        return next((r for r in self.records if r.run_id == self.files.run_id and r.status in _MOST_READ), None)

    @functools.cached_property
    def before(self) -> NightRecord | None:
        """The night that this one is compared with: the one that readers saw when it came."""
        readable = [
            r
            for r in self.records
            if r.status in _MOST_READ and r.run_id != self.files.run_id and r.run_date <= self.files.run_date
        ]
        if self.record is not None and self.record.compared_with is not None:
            return next((r for r in readable if r.table == self.record.compared_with), None)
        return next(iter(readable), None)

    @functools.cached_property
    def axes(self) -> list[PublishedAxis]:
        """The axes of this night's table."""
        return read_axes(self.record) if self.record is not None else []

    @property
    def outputs(self) -> list[Column]:
        """Columns of the model's outputs, of a night that has a table."""
        return [column for column in self.record.columns if column.role == "output"] if self.record else []

    @functools.cached_property
    def statistics(self) -> Datasets:
        """Of this night's examples, by split."""
        return read_statistics(self.files.text("statistics.pbtxt"))

    @functools.cached_property
    def traffic(self) -> dict[str, FeatureStatistics]:
        """Statistics of what the model is asked about, if the job names a source of that."""
        return next(iter(read_statistics(self.files.text("traffic_statistics.pbtxt")).values()), {})

    @functools.cached_property
    def statistics_before(self) -> Datasets:
        """Of the examples of the night before, if they are still there."""
        against = self.before
        if against is None or not storage.exists(storage.join(against.run_dir, "statistics.pbtxt")):
            return {}
        return read_statistics(NightFiles(against.run_dir, frozenset(["statistics.pbtxt"])).text("statistics.pbtxt"))

    def description(self, feature: str) -> str:
        """What the job file says of a feature or of the label."""
        label = self.job.get("label") or {}
        if feature == label.get("name"):
            return str(label.get("description") or "")
        return str((self.job.get("features", {}).get(feature) or {}).get("description") or "")

    def command(self, name: str, *arguments: str) -> str:
        """A command line on this job."""
        return " ".join(["foretable", name, self.job_file, *arguments])
