"""The last nights of a job, whatever became of them: what `foretable runs`, the report and the hooks say of a night.

Read from run directories, because a night that was refused or failed is in no warehouse.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from beam_jobs.lineage import CHOSEN_FILE
from beam_jobs.workspace import storage
from beam_jobs.workspace.night_files import NightFiles
from beam_jobs.workspace.run_directory import MARKERS

HISTORY_NIGHTS = 30


@dataclasses.dataclass(frozen=True)
class NightSummary:
    """One run of a night, in numbers.

    Attributes:
        status: `unfinished` was killed, or runs now.
        line: what the person saw at its end.
        stage: the first one that is not done; None for a night that is published.
        seconds: of all stages that are done, but for `monitor`, which tells of them.
        metrics: of the model on the whole eval split.
        drift: the largest distance of a feature to the last night's, as a part of its threshold.
        changed_fraction: of the keys in both nights' tables, those whose answer changed.
        warnings: about the model and the contracts, a line each; those about the examples are in anomalies.pbtxt.
    """

    run_date: str
    run_id: str
    status: Literal["published", "kept", "refused", "failed", "unfinished"]
    line: str
    stage: str | None
    exit_code: int | None
    finished_at: str | None
    seconds: float
    rows: int | None = None
    bad_rows: int | None = None
    model_version: str | None = None
    trained: bool = False
    metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)
    drift: float | None = None
    drifted_feature: str | None = None
    changed_fraction: float | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def summarize_night(files: NightFiles) -> NightSummary:
    """The numbers of one run directory."""
    markers, outcome = files.markers, files.outcome
    published, blessing = markers.get("publish"), markers.get("evaluate")
    manifest = markers.get("precompute", {}).get("manifest", {})
    is_own = not files.tree(CHOSEN_FILE)
    metrics = (published or {}).get("metrics") or (is_own and (blessing or {}).get("metrics")) or {}
    drift, feature = _drift(files)
    finished = [marker["finished_at"] for marker in markers.values()]
    status, line = _end(markers, outcome)
    unfinished = next((stage for stage in files.stages if stage not in markers), None)
    if blessing is not None and not blessing["blessed"] and is_own:
        unfinished = "evaluate"
    return NightSummary(
        run_date=files.run_date.isoformat(),
        run_id=files.run_id,
        status=status,
        line=line,
        stage=None if published is not None else outcome.get("stage") or unfinished,
        exit_code=0 if published is not None else outcome.get("exit_code"),
        finished_at=max([*finished, *filter(None, [outcome.get("finished_at")])], default=None),
        seconds=round(sum(marker["seconds"] for stage, marker in markers.items() if stage != "monitor"), 3),
        rows=published["rows"] if published is not None else manifest.get("rows"),
        bad_rows=markers.get("prepare", {}).get("bad_rows"),
        model_version=manifest.get("model_version") or markers.get("train", {}).get("model_version"),
        trained="trained_in" in markers.get("train", {}) and "trained_on" not in markers["train"],
        metrics={name: value for name, value in metrics.items() if isinstance(value, int | float | None)},
        drift=drift,
        drifted_feature=feature,
        changed_fraction=changed_fraction(files.tree("changes.json")),
        warnings=_warnings((blessing or {}) if is_own else {}, files.tree("changes.json")),
    )


def _warnings(blessing: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    checks = (check for check in changes.get("checks") or () if check.get("warning"))
    return [*blessing.get("warnings", ()), *(f"contract {check['name']}: {check['warning']}" for check in checks)]


def _end(markers: Mapping[str, Any], outcome: Mapping[str, Any]) -> tuple[Any, str]:
    published, blessing = markers.get("publish"), markers.get("evaluate")
    if published is not None:
        status = "published" if published.get("status", "current") == "current" else "kept"
        return status, f"{published['rows']:,} rows verified; {published['view']} in {published['warehouse']}"
    if outcome:
        return outcome["status"], outcome["line"]
    if blessing is not None and not blessing["blessed"]:
        return "refused", "; ".join(blessing["reasons"])
    return "unfinished", "it was killed, or it runs now"


def _drift(files: NightFiles) -> tuple[float | None, str | None]:
    """A column is as far as from the nearest of the last nights: it has drifted if it is too far from each of them."""
    nearest: dict[tuple[str, str], float] = {}
    for entry in files.tree("distances.json").get("drift") or ():
        if entry.get("distance") is not None and entry.get("threshold"):
            key, part = (entry["feature"], entry.get("measure", "")), entry["distance"] / entry["threshold"]
            nearest[key] = min(part, nearest.get(key, part))
    return max(((part, feature) for (feature, _), part in nearest.items()), default=(None, None))


def changed_fraction(changes: Mapping[str, Any]) -> float | None:
    """The fraction of keys whose answer changed, of what `changes.json` holds."""
    value = changes.get("changed_fraction")
    return float(value) if isinstance(value, int | float) else None


def list_nights(job_folder: str, count: int = HISTORY_NIGHTS) -> list[NightSummary]:
    """The last runs of a job, newest first."""
    names: dict[str, set[str]] = {}
    for path in storage.list_files(job_folder, "*/*/*.*"):
        run_path, _, name = path.rpartition("/")
        names.setdefault(run_path, set()).add(name)
    dated = sorted((run for run, found in names.items() if "job.json" in found), reverse=True)
    recent = {run.split("/")[-2] for run in dated[:count]}  # whole dates: a date's runs are ordered by time below
    runs = [NightFiles(run, frozenset(names[run])) for run in dated if run.split("/")[-2] in recent]
    summaries = [_read_summary(files) for files in runs]
    return sorted(summaries, key=lambda night: (night.run_date, night.finished_at or ""), reverse=True)[:count]


def _read_summary(files: NightFiles) -> NightSummary:
    """What the monitor stage kept, which outlives the tables of an expired night; else what the files say."""
    kept = files.tree(MARKERS["monitor"]).get("night")
    if isinstance(kept, dict):
        known = {field.name for field in dataclasses.fields(NightSummary)}
        return NightSummary(**{name: value for name, value in kept.items() if name in known})
    return summarize_night(files)
