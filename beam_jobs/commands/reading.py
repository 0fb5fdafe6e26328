"""What the commands do that read published tables or switch between them. Nothing here imports Beam or TensorFlow."""

import datetime
from collections.abc import Sequence
from typing import Any

from beam_jobs.history import NightSummary, list_nights
from beam_jobs.key_text import parse_key
from beam_jobs.lineage import chosen_model
from beam_jobs.lookup import Hit, Miss, find, published_night
from beam_jobs.model_registry import ModelVersion, follow_readers, open_registry, workspace_models
from beam_jobs.warehouses.base import NightRecord, Warehouse
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import MAKE_MODEL, MARKERS, job_folder, read_marker, stages_of
from configs.errors import ForetableError
from configs.job import Job

STATUS_NIGHTS = 10


def look_up(job: Job, warehouse: Warehouse, arguments: Sequence[str]) -> Hit | Miss:
    """Looks up the key given as `column=value` arguments."""
    return find(warehouse, job.name, parse_key(arguments))


def write_query(job: Job, warehouse: Warehouse) -> str:
    """SQL that answers a key, to start from, with a row of the table as its example.

    Raises:
        RefusedError: nothing is published.
    """
    return warehouse.key_query(published_night(warehouse, job.name))


def list_runs(job: Job, warehouse: Warehouse) -> list[dict[str, Any]]:
    """The last nights, newest first: those on record, and those that were refused, failed, or never came to an end."""
    nights = list_nights(job_folder(job))
    summaries = {night.run_id: night for night in nights}
    records = warehouse.runs(job.name)
    listed = [_brief(record) | _course(summaries.get(record.run_id)) for record in records]
    on_record = {record.run_id for record in records}
    listed += [
        {"job": job.name, "published_at": None, "run_dir": storage.join(job_folder(job), night.run_date, night.run_id)}
        | night.to_json()
        for night in nights
        if night.run_id not in on_record
    ]
    return sorted(listed, key=lambda run: (run["run_date"], run["finished_at"] or ""), reverse=True)


def roll_back(job: Job, warehouse: Warehouse, run_date: datetime.date) -> dict[str, Any]:
    """Shows readers the night of `run_date` again; its model is then the registry's champion."""
    record = warehouse.rollback(job.name, run_date)
    try:
        promoted = follow_readers(job, record)
    except ForetableError as error:
        raise ForetableError(
            f"{job.name}_predictions is the night of {run_date} again, but its model is no champion yet: {error}"
        ) from error
    return _brief(record) | {"champion": promoted.resource if promoted is not None else None}


def list_models(job: Job, warehouse: Warehouse) -> list[dict[str, Any]]:
    """The versions of the job's model, newest first; also those that Vertex AI has not, for want of a blessing."""
    found = open_registry(job).versions()
    registered = {version.model_version for version in found}
    found += [model for model in workspace_models(job) if model.model_version not in registered]
    current = warehouse.current(job.name)
    published = current.model_version if current is not None else None
    listed = sorted(found, key=_by_night, reverse=True)
    return [version.to_json() | {"is_published": version.model_version == published} for version in listed]


def _by_night(version: ModelVersion) -> tuple[datetime.date, int]:
    return version.run_date, int(version.version or 0)


def job_status(job: Job, warehouse: Warehouse) -> dict[str, Any]:
    """What is published, and how far the last nights came."""
    current = warehouse.current(job.name)
    folder = job_folder(job)
    runs = sorted({path.rpartition("/")[0] for path in storage.list_files(folder, "*/*/job.json")}, reverse=True)
    return {
        "job": job.name,
        "workspace": folder,
        "published": _brief(current) if current is not None else None,
        "view": f"{job.name}_predictions",
        "warehouse": warehouse.location,
        "nights": [_progress(run_path) for run_path in runs[:STATUS_NIGHTS]],
    }


def _brief(record: NightRecord) -> dict[str, Any]:
    left_out = ("columns", "axes", "description", "exclude")
    return {name: value for name, value in record.to_json().items() if name not in left_out}


def _course(night: NightSummary | None) -> dict[str, Any]:
    """What the run directory adds to a night's record."""
    names = ("seconds", "changed_fraction", "drift", "drifted_feature", "bad_rows", "line", "finished_at")
    return {name: getattr(night, name, None) for name in names}


def _progress(run_path: str) -> dict[str, Any]:
    markers = {name: storage.join(run_path, marker) for name, marker in MARKERS.items()}
    finished = {name: read_marker(path) for name, path in markers.items() if storage.exists(path)}
    blessing = finished.get("evaluate")
    stages = stages_of(storage.read_json(storage.join(run_path, "job.json")))
    if chosen_model(run_path) is not None:  # whatever became of the night's own
        stages = [stage for stage in stages if stage not in MAKE_MODEL]
    refused = blessing is not None and not blessing["blessed"] and "evaluate" in stages
    unfinished = [name for name in stages if name not in finished]
    run_date, run_id = run_path.split("/")[-2:]
    return {
        "run_date": run_date,
        "run_id": run_id,
        "finished": list(finished),
        "refused": list(blessing["reasons"]) if refused and blessing is not None else [],
        "next": None if refused or not unfinished else unfinished[0],
    }
