"""publish: load, verify, check, switch. Readers see last night's table or tonight's, whole, and nothing else."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from beam_jobs.lineage import chosen_model
from beam_jobs.model_registry import follow_readers
from beam_jobs.night import Night, Stage
from beam_jobs.prediction_checks import PredictionReport, check_predictions
from beam_jobs.stages import evaluate, plan, precompute
from beam_jobs.warehouses import base, open_warehouse
from beam_jobs.workspace import artifacts, storage
from beam_jobs.workspace.acceptances import read_accepted
from beam_jobs.workspace.changes_file import CHANGES_FILE, changes_tree
from beam_jobs.workspace.run_directory import read_marker
from configs.contract_agreement import declared_outputs
from configs.errors import ForetableError, RefusedError
from configs.job import TrainedJob
from configs.modeling import Regression
from transforms.space.planning import Plan

MOST_SLICES, MOST_AXIS_SLICES = 200, 20
"""Values that a slice may have to be told of: one of the evaluation's, or an axis where the evaluation has none."""


def run(night: Night) -> dict[str, Any]:
    """Publishes tonight's table and lets those go whose retention has passed."""
    job = night.job
    planned = night.run.read_marker(plan.STAGE.marker)
    assert planned is not None
    metrics = _metrics(night)
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
        accepted=_may_fail(night),
    )
    warehouse = open_warehouse(job)
    table = warehouse.load(coming)
    verification = warehouse.verify(coming)
    report = _check(night, coming, warehouse, space_plan)
    accepted = {check.name: check.accepted for check in verification.checks if check.accepted is not None}
    compared_with = report.before.table if report.before is not None else None
    night.lock.check()  # readers see the switch, whatever becomes of this stage's marker
    record = warehouse.switch(
        dataclasses.replace(coming, accepted=accepted | report.accepted, compared_with=compared_with)
    )
    if record.is_current:
        _promote(night, record)
    expired = warehouse.expire(job.name, night.run.run_date, job.publish.retention_days)
    return {
        "table": table,
        "view": f"{job.name}_predictions",
        "warehouse": warehouse.location,
        "rows": verification.rows,
        "metrics": dict(record.metrics),
        "checks": {check.name: check.finding for check in verification.checks},
        "contracts": [dataclasses.asdict(check) for check in report.checks if check.kind == "contract"],
        "changes": _brief(report),
        "status": record.status,
        "expired": [gone.table for gone in expired],
    }


def _metrics(night: Night) -> dict[str, Any]:
    """Of the model that the night scored with, by its own night if a person chose it; nobody judges a given one."""
    chosen = chosen_model(night.run.path)
    judged = night.run.path if chosen is None else chosen.run_path
    path = storage.join(judged, evaluate.STAGE.marker)
    return dict(read_marker(path)["metrics"]) if storage.exists(path) else {}


def _promote(night: Night, record: base.NightRecord) -> None:
    """Gives the registry's alias for what readers see to the model of their night, which is this one."""
    try:
        promoted = follow_readers(night.job, record)
    except ForetableError as error:
        raise ForetableError(
            f"publish: readers see {record.table}, but its model is no champion yet: {error}"
        ) from error
    if promoted is not None and promoted.resource is not None:
        night.console.line(f"publish      champion: {promoted}, {promoted.resource}", "dim")


def settings(night: Night) -> dict[str, str]:
    """What of the job file decides whether a night is shown, and not what is in it."""
    publish = night.job.publish.model_dump(mode="json", include={"allow_schema_change", "contracts", "changes"})
    return {"checks": storage.digest_of(publish), "accepted": storage.digest_of(read_accepted(night.run))}


def _may_fail(night: Night) -> dict[str, str]:
    by_job_file = {"schema": "publish.allow_schema_change"} if night.job.publish.allow_schema_change else {}
    return by_job_file | read_accepted(night.run)


def _check(night: Night, coming: base.Night, warehouse: base.Warehouse, space_plan: Plan) -> PredictionReport:
    """Checks the predictions, and writes what was found, before it refuses."""
    job, publish = night.job, night.job.publish
    trained_classes = getattr(artifacts.scoring_model(job, night.run.path), "classes", None)
    classes = (job.label.name,) if isinstance(job, TrainedJob) and not isinstance(job.task, Regression) else ()
    report = check_predictions(
        warehouse,
        coming,
        publish.contracts,
        publish.changes,
        declared_outputs(job, trained_classes),
        classes,
        list(_slices(night, space_plan)),
    )
    storage.write_json(night.run.file(CHANGES_FILE), changes_tree(coming, report, publish.changes))
    for check in report.checks:
        if check.warning is not None:
            night.console.line(f"warning: publish.contracts.{check.name}: {check.warning}", "yellow")
    if report.refusals:
        command = f"foretable publish {night.job_file} --date {night.run.run_date}"
        raise RefusedError(
            "\n".join(
                f'{check.problem}; if it is meant, `{command} --accept {check.name} --reason "..."`'
                for check in report.refusals
            )
        )
    return report


def _slices(night: Night, space_plan: Plan) -> Iterator[tuple[str, ...]]:
    """The evaluation's slices as far as they are keys, or each axis alone; none of many values."""
    keys = [column.name for column in space_plan.columns if column.role == "key"]
    axis_of = {column: axis for axis in space_plan.axes for column in axis.columns}
    evaluated = night.job.evaluation.slices if isinstance(night.job, TrainedJob) else ()
    found = [
        names
        for names in evaluated
        if names
        and set(names) <= set(keys)
        and math.prod({axis_of[name].name: axis_of[name].rows for name in names}.values()) <= MOST_SLICES
    ]
    if found:
        yield from found
        return
    for axis in space_plan.axes:
        columns = tuple(column for column in axis.columns if column in keys)
        if columns and axis.rows <= MOST_AXIS_SLICES:
            yield columns


def _brief(report: PredictionReport) -> dict[str, Any] | None:
    """What changed, in a few numbers."""
    if report.changes is None or report.before is None:
        return None
    overall = report.changes.overall
    most = max((output.changed for output in overall.outputs.values()), default=0)
    return {
        "against": report.before.run_date.isoformat(),
        "changed_fraction": most / overall.common if overall.common else None,
        "common": overall.common,
        "new": overall.new,
        "gone": overall.gone,
    }


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    shown = "" if marker["status"] == "current" else " (kept: readers go on seeing a later night)"
    changes, changed = marker["changes"], ""
    if changes is not None and changes["changed_fraction"] is not None:
        changed = f", {changes['changed_fraction']:.2%} changed since {changes['against']}"
    return f"{marker['rows']:,} rows verified{changed}; {marker['view']} in {marker['warehouse']}{shown}"


STAGE = Stage("publish", (precompute.STAGE, evaluate.STAGE, plan.STAGE), run, summary, settings)
