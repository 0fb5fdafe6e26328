"""What the commands do that read published tables or switch between them. Nothing here imports Beam or TensorFlow."""

import datetime
from collections.abc import Sequence
from typing import Any

from beam_jobs import storage
from beam_jobs.lookup import Hit, Miss, find, parse_key, published_night
from beam_jobs.published_axes import read_axes
from beam_jobs.run_directory import MARKERS, job_folder, read_marker, stages_of
from beam_jobs.warehouses.base import NightRecord, Warehouse
from configs.job import Job

STATUS_NIGHTS = 10
EXAMPLE_ROW = 10_000


def look_up(job: Job, warehouse: Warehouse, arguments: Sequence[str]) -> Hit | Miss:
    """Looks up the key given as `column=value` arguments."""
    return find(warehouse, job.name, parse_key(arguments))


def write_query(job: Job, warehouse: Warehouse) -> str:
    """SQL that answers a key, to start from, with a row of the table as its example.

    Raises:
        RefusedError: nothing is published.
    """
    from beam_jobs.warehouses.key_query import key_query

    record = published_night(warehouse, job.name)
    offset = min(record.rows // 2, EXAMPLE_ROW)
    view = f"{job.name}_predictions"
    (row,) = warehouse.query(f'SELECT * FROM "{view}" LIMIT 1 OFFSET {offset}').to_pylist()
    return key_query(record, read_axes(record), row)


def list_runs(job: Job, warehouse: Warehouse) -> list[dict[str, Any]]:
    """Every night on record, newest first."""
    return [_brief(record) for record in warehouse.runs(job.name)]


def roll_back(job: Job, warehouse: Warehouse, run_date: datetime.date) -> dict[str, Any]:
    """Shows readers the night of `run_date` again."""
    return _brief(warehouse.rollback(job.name, run_date))


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


def _progress(run_path: str) -> dict[str, Any]:
    markers = {name: storage.join(run_path, marker) for name, marker in MARKERS.items()}
    finished = {name: read_marker(path) for name, path in markers.items() if storage.exists(path)}
    blessing = finished.get("evaluate")
    refused = blessing is not None and not blessing["blessed"]
    stages = stages_of(storage.read_json(storage.join(run_path, "job.json")))
    unfinished = [name for name in stages if name not in finished]
    run_date, run_id = run_path.split("/")[-2:]
    return {
        "run_date": run_date,
        "run_id": run_id,
        "finished": list(finished),
        "refused": list(blessing["reasons"]) if refused and blessing is not None else [],
        "next": None if refused or not unfinished else unfinished[0],
    }
