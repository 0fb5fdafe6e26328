"""The end of a night, good or bad: what it was is kept, shown as a report, and told to the hooks.

None of it may change how the night ended: what goes wrong here is a warning line, with the story in the log.
"""

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Iterator
from typing import Any

from beam_jobs.console import Console
from beam_jobs.history import summarize_night
from beam_jobs.night import Night
from beam_jobs.notifying import night_news, tell
from beam_jobs.workspace.night_files import NightFiles
from beam_jobs.workspace.outcome import Outcome, versions_of
from configs.job import Job


@dataclasses.dataclass
class Progress:
    """How far a run came.

    Attributes:
        stage: that runs, or ran last.
    """

    stage: str | None = None


@contextlib.contextmanager
def watched(night: Night, tells: bool = True) -> Iterator[Progress]:
    """Keeps, reports and tells the end of the block, if that is an error, which goes on its way.

    Args:
        tells: the hooks.
    """
    progress = Progress()
    try:
        yield progress
    except Exception as error:
        outcome = Outcome.of_error(error, progress.stage, {})
        report = None
        with _only_warning(night.console, "the night's end cannot be recorded"):
            outcome = dataclasses.replace(outcome, versions=versions_of(night.job))
            outcome.write(night.run.path)
            report = try_to_report(night)
            if report is not None:
                night.console.line(f"the report is {report}")
        if tells:
            tell_end(night, outcome, report)
        raise


def try_to_report(night: Night) -> str | None:
    """Writes the report and returns its path, or None where it cannot be made."""
    with _only_warning(night.console, "no report", f"`foretable report {night.job_file}` tries again"):
        from beam_jobs.report.writing import readable_warehouse, write_report

        warehouse = readable_warehouse(night.job, night.console.line)
        return write_report(night.job_file, night.run.path, warehouse)
    return None


def tell_end(night: Night, outcome: Outcome, report: str | None) -> None:
    """Tells the job's hooks how the night ended."""
    if not night.job.notify:
        return
    with _only_warning(night.console, "the hooks are not told"):
        summary = summarize_night(NightFiles.of(night.run.path)).to_json()
        run = night.run
        news = night_news(night.job.name, run.run_date.isoformat(), run.run_id, outcome.to_json(), summary, report)
        tell(night.job.notify, news, night.console.line)


def tell_publication(night: Night, marker: dict[str, Any]) -> None:
    """Tells the hooks of a night whose monitor stage ended with this marker."""
    kept = marker["night"]
    tell_end(night, Outcome(kept["status"], 0, kept["line"], None), marker["report"])


def tell_no_start(job: Job, run_date: datetime.date, error: Exception, console: Console) -> None:
    """Tells the hooks of a night that ended before it had a run directory, because a source is missing, say."""
    outcome = Outcome.of_error(error, None, {})
    with _only_warning(console, "the hooks are not told"):
        tell(job.notify, night_news(job.name, run_date.isoformat(), None, outcome.to_json()), console.line)


@contextlib.contextmanager
def _only_warning(console: Console, what: str, mend: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logging.exception("%s", what)
        lines = str(error).strip().splitlines() or [""]
        hint = f"; {mend}" if mend else ""
        console.line(f"warning: {what}: {type(error).__name__}: {lines[0][:200]}{hint}", "yellow")
