"""publish: load, verify, switch. Readers see last night's table or tonight's, whole, and nothing else."""

import dataclasses
from typing import Any

from beam_jobs import artifacts, storage
from beam_jobs.night import Night, Stage
from beam_jobs.stages import evaluate, plan, precompute
from beam_jobs.warehouses import base, open_warehouse
from transforms.space.planning import Plan


def run(night: Night) -> dict[str, Any]:
    """Publishes tonight's table and lets those go whose retention has passed."""
    job = night.job
    planned, blessed = night.run.read_marker(plan.STAGE.marker), night.run.read_marker(evaluate.STAGE.marker)
    assert planned is not None
    metrics = blessed["metrics"] if blessed is not None else {}  # nobody judges a model that the job is given
    manifest = artifacts.manifest_of(night.run)
    space_plan = Plan.from_json(planned["plan"])
    coming = base.Night(
        job=job.name,
        run_date=night.run.run_date,
        run_id=night.run.run_id,
        run_dir=night.run.path,
        manifest=manifest,
        axes=tuple(storage.list_files(night.run.file("axes"), "*.parquet")),
        planned_rows=space_plan.rows,
        excluded=space_plan.excluded,
        exclude=space_plan.exclude,
        description=job.description,
        metrics={name: value for name, value in metrics.items() if value is not None},
        labels={"run_id": night.run.run_id, "model_version": manifest.model_version},
        accepted={"schema": "publish.allow_schema_change"} if job.publish.allow_schema_change else {},
    )
    warehouse = open_warehouse(job)
    table = warehouse.load(coming)
    verification = warehouse.verify(coming)
    accepted = {check.name: check.accepted for check in verification.checks if check.accepted is not None}
    record = warehouse.switch(dataclasses.replace(coming, accepted=accepted))
    expired = warehouse.expire(job.name, night.run.run_date, job.publish.retention_days)
    return {
        "table": table,
        "view": f"{job.name}_predictions",
        "warehouse": warehouse.location,
        "rows": verification.rows,
        "checks": {check.name: check.finding for check in verification.checks},
        "status": record.status,
        "expired": [gone.table for gone in expired],
    }


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    shown = "" if marker["status"] == "current" else " (kept: readers go on seeing a later night)"
    return f"{marker['rows']:,} rows verified; {marker['view']} in {marker['warehouse']}{shown}"


STAGE = Stage("publish", (precompute.STAGE, evaluate.STAGE, plan.STAGE), run, summary)
