"""`changes.json` of a run: what its checks found and what it changes, whether the night was let through or not."""

import dataclasses
import datetime
import math
from typing import Any

from beam_jobs.prediction_checks import PredictionReport
from beam_jobs.warehouses.base import Night
from beam_jobs.warehouses.changes import SliceChange
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import read_marker
from configs.contracts import ChangeBudget
from configs.errors import RefusedError

CHANGES_FILE = "changes.json"
FORMAT = 1


def changes_tree(night: Night, report: PredictionReport, budget: ChangeBudget) -> dict[str, Any]:
    """What `changes.json` holds, as plain values."""
    changes, before = report.changes, report.before
    tree: dict[str, Any] = {
        "format": FORMAT,
        "job": night.job,
        "run_date": night.run_date.isoformat(),
        "run_id": night.run_id,
        "table": night.table,
        "checked_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "verdict": "refused" if report.refusals else "accepted" if report.accepted else "passed",
        "refusals": [check.problem for check in report.refusals],
        "checks": [dataclasses.asdict(check) for check in report.checks],
        "against": None if before is None else before.run_date.isoformat(),
        "against_night": None,
        "note": report.note,
        "changed_fraction": None,
        "overall": None,
        "slices": [],
        "movers": {},
        "flips": {},
    }
    if before is not None:
        names = ("table", "run_id", "model_version")
        tree["against_night"] = {"run_date": tree["against"]} | {name: getattr(before, name) for name in names}
    if changes is not None and report.comparison is not None:
        compared = {output.name: output for output in report.comparison.outputs}
        overall = _slice_tree(changes.overall)
        for name, output in overall["outputs"].items():
            asked = compared[name]
            limit = budget.limit_of(name, asked.is_class)
            output |= {
                "columns": asked.columns,
                "threshold": asked.threshold,
                "is_class": asked.is_class,
                "limit": limit,
            }
        fractions = [output["fraction"] for output in overall["outputs"].values()]
        tree |= {
            "joined_by": changes.joined_by,
            "quantile_rows": changes.quantile_rows,
            "changed_fraction": max((fraction for fraction in fractions if fraction is not None), default=None),
            "overall": overall,
            "slices": [_slice_tree(change) for change in changes.slices],
            "new_keys": changes.new_keys,
            "gone_keys": changes.gone_keys,
        }
        for name, movers in changes.movers.items():
            found = [dataclasses.asdict(mover) for mover in movers]
            tree["flips" if compared[name].is_class else "movers"][name] = found
    return dict(_plain(tree))


def _slice_tree(change: SliceChange) -> dict[str, Any]:
    tree = dataclasses.asdict(change)
    for output in tree["outputs"].values():
        output["fraction"] = output["changed"] / change.common if change.common else None
    return tree


def _plain(value: Any) -> Any:
    """The value as JSON has it: keys are text, and a number that is none is null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_changes(job_folder: str, run_date: datetime.date | None = None) -> dict[str, Any]:
    """`changes.json` of a date's last run, by default of the newest night that was checked, refused or not.

    Raises:
        RefusedError: there is none.
    """
    date = "*" if run_date is None else run_date.isoformat()
    paths = storage.list_files(job_folder, f"{date}/*/{CHANGES_FILE}")
    if not paths:
        which = "no night" if run_date is None else f"no night of {run_date}"
        raise RefusedError(f"{job_folder}: {which} came to its checks; `foretable run` computes and checks one")
    newest = max(path.split("/")[-3] for path in paths)
    trees = [read_marker(path) for path in paths if path.split("/")[-3] == newest]
    return max(trees, key=lambda tree: str(tree["checked_at"]))
