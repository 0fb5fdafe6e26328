"""What readers find beside the predictions, alike in every warehouse: `<job>_runs`, `<job>_history`, descriptions."""

import datetime
from collections.abc import Iterable, Sequence
from operator import attrgetter

from beam_jobs.warehouses.base import NightRecord

# In front of a night's columns in `<job>_history`; no column of a job may have these names.
HISTORY_COLUMNS = ("run_date", "run_id")
RUNS_COMMENTS = {
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
"""Columns of `<job>_runs`, in order."""


def runs_comment(job: str) -> str:
    """Description of `<job>_runs`."""
    return f"Every published night of {job}"


def history_comment(job: str) -> str:
    """Description of `<job>_history`."""
    return f"The nights of {job} that are kept, one run for each date"


def night_comment(record: NightRecord) -> str:
    """Description of a night's table and of the view that shows it."""
    night = f"Night of {record.run_date}, run {record.run_id}, model {record.model_version}"
    return f"{record.description.strip()} ({night})" if record.description.strip() else night


def newest_first(records: Iterable[NightRecord]) -> tuple[NightRecord, ...]:
    """The records by falling date, and those of one date by falling time of publishing."""
    return tuple(sorted(records, key=attrgetter("run_date", "published_at"), reverse=True))


def one_a_date(records: Iterable[NightRecord]) -> tuple[NightRecord, ...]:
    """The records of `<job>_history`, newest first: of each date the run published last, so a key has one answer."""
    latest = {record.run_date: record for record in reversed(newest_first(records))}
    return newest_first(latest.values())


def past_retention(
    records: Sequence[NightRecord], today: datetime.date, retention_days: int
) -> tuple[NightRecord, ...]:
    """Kept nights of a job that are too old, newest first.

    Never the one that readers saw before theirs: `<job>_changes` compares the two, and a rollback goes back to it.
    """
    last = today - datetime.timedelta(days=retention_days)
    compared = {record.compared_with for record in records if record.is_current}
    kept = (record for record in records if record.status == "kept" and record.table not in compared)
    return newest_first(record for record in kept if record.run_date <= last)
