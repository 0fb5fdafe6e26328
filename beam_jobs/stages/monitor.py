"""monitor: what the published night was, in numbers for the history and as a report to look at."""

from typing import Any

from beam_jobs.history import summarize_night
from beam_jobs.night import Night, Stage
from beam_jobs.reporting import try_to_report
from beam_jobs.stages import publish
from beam_jobs.workspace.night_files import NightFiles
from beam_jobs.workspace.outcome import Outcome, Status, versions_of


def run(night: Night) -> dict[str, Any]:
    """Writes outcome.json and report.html; a report that cannot be made is a warning and no more."""
    summary = summarize_night(NightFiles.of(night.run.path))
    status: Status = "kept" if summary.status == "kept" else "published"
    Outcome(status, 0, summary.line, None, versions_of(night.job)).write(night.run.path)
    report = try_to_report(night)
    return {"night": summary.to_json(), "report": report}


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    night = marker["night"]
    parts = []
    if night["changed_fraction"] is not None:
        parts.append(f"{100 * night['changed_fraction']:.3g} % of the answers changed")
    if night["drift"] is not None:
        parts.append(f"largest drift {100 * night['drift']:.3g} % of its threshold, at {night['drifted_feature']}")
    return "; ".join([*parts, marker["report"] or "no report"])


STAGE = Stage("monitor", (publish.STAGE,), run, summary)
