"""Checks that a person lets a night fail, each with the reason, in `accepted.json` of the run: a rerun knows them."""

import difflib
from collections.abc import Sequence

from beam_jobs.night import Night
from beam_jobs.prediction_checks import check_names
from beam_jobs.workspace import artifacts, storage
from beam_jobs.workspace.run_directory import MARKERS, RunDirectory
from configs.contract_agreement import declared_outputs
from configs.errors import JobError, RefusedError

ACCEPTED_FILE = "accepted.json"


def read_accepted(run: RunDirectory) -> dict[str, str]:
    """The reason for each accepted check."""
    path = run.file(ACCEPTED_FILE)
    return dict(storage.read_json(path)) if storage.exists(path) else {}


def accept_checks(night: Night, checks: Sequence[str], reason: str | None) -> None:
    """Lets the night fail these checks too.

    Raises:
        JobError: it has no such check, or there is no reason.
        RefusedError: its predictions are not computed yet.
    """
    if not checks:
        if reason is not None:
            raise JobError(f"--reason {reason!r}: expected beside --accept CHECK")
        return
    if reason is None or not reason.strip():
        raise JobError(f"--accept {checks[0]}: expected --reason with why it may fail; the table of runs keeps it")
    if night.run.read_marker(MARKERS["precompute"]) is None:
        raise RefusedError(
            f"--accept {checks[0]}: this night has no predictions to check yet; "
            f"run `foretable run {night.job_file} --date {night.run.run_date}` first"
        )
    known = _known_checks(night)
    for check in checks:
        if check not in known:
            near = difflib.get_close_matches(check, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"
            raise JobError(f"--accept {check!r}: no such check of this night{hint}")
    accepted = read_accepted(night.run) | dict.fromkeys(checks, " ".join(reason.split()))
    storage.write_json(night.run.file(ACCEPTED_FILE), accepted)


def _known_checks(night: Night) -> list[str]:
    classes = getattr(artifacts.scoring_model(night.job, night.run.path), "classes", None)
    groups = declared_outputs(night.job, classes).groups
    together = {column for columns in groups.values() for column in columns}
    columns = [column.name for column in artifacts.manifest_of(night.run).columns if column.role == "output"]
    outputs = [*(column for column in columns if column not in together), *groups]
    return check_names(night.job.publish.contracts, outputs)
