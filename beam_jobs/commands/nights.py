"""What the commands of a night do."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from beam_jobs import lineage
from beam_jobs.model_choice import choose_model, model_by_name
from beam_jobs.night import Night, model_settings, run_stage
from beam_jobs.reporting import tell_publication, watched
from beam_jobs.stages import evaluate, monitor, plan, precompute, prepare, publish, train
from beam_jobs.vertex.measuring import measured_sizing, planned_sizing
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import artifacts
from beam_jobs.workspace.acceptances import accept_checks
from beam_jobs.workspace.night_files import NightFiles
from configs.errors import RefusedError
from configs.job import ForeignJob
from transforms.scoring.threads import settle_tensorflow_threads

IN_ORDER = (
    prepare.STAGE,
    train.STAGE,
    evaluate.STAGE,
    plan.STAGE,
    precompute.STAGE,
    publish.STAGE,
    monitor.STAGE,
)
STAGES = {stage.name: stage for stage in IN_ORDER}


def run_night(night: Night) -> dict[str, Any]:
    """Runs every stage that is not done, up to the report on the published table; returns what was published."""
    settle_tensorflow_threads()  # before any stage starts TensorFlow, which settles them for good
    absent = [stage.name for stage in STAGES.values() if not stage.is_part_of(night)]
    if absent:
        night.console.line(f"{', '.join(absent)} are no stages of this night: its model is given (model.saved_model)")
    if night.has_chosen_model:
        model = model_settings(night)["model"]
        goes_back = f"`foretable precompute {night.job_file} --date {night.run.run_date}` goes back to the night's own"
        night.console.line(f"scoring with model {model}, which was chosen for this night; {goes_back}")
    seen_before = night.run.read_marker(monitor.STAGE.marker)
    done = {}
    with watched(night) as progress:
        open_warehouse(night.job).check()  # before anything is computed that could not be published
        for stage in STAGES.values():
            if stage.is_needed(night):
                progress.stage = stage.name
                done[stage.name] = run_stage(stage, night)
    monitored = done[monitor.STAGE.name]
    if monitored != seen_before:  # a night that was done before is no news
        tell_publication(night, monitored)
    run = {"run_id": night.run.run_id, "run_date": night.run.run_date.isoformat(), "run_dir": night.run.path}
    return {**run, **done[publish.STAGE.name], "report": monitored["report"]}


def run_one_stage(night: Night, name: str) -> dict[str, Any]:
    """Runs one stage, or skips it where it is done; returns its marker."""
    settle_tensorflow_threads()
    if name == train.STAGE.name and night.train_now and train.STAGE.is_part_of(night):
        run_stage(STAGES["prepare"], night)  # a night on which no training was due has no transform graph yet
    if name in (precompute.STAGE.name, publish.STAGE.name):
        open_warehouse(night.job).check()
    return run_stage(STAGES[name], night)


def precompute_with(night: Night, model: str | None) -> dict[str, Any]:
    """Computes the predictions with a version of the model, or with the night's own; returns the stage's marker."""
    choose_model(night, model)
    planned = night.run.read_marker(plan.STAGE.marker)
    planned_for = planned["inputs"].get("model") if planned is not None else None
    if planned_for != model_settings(night).get("model"):
        run_one_stage(night, plan.STAGE.name)
    return run_one_stage(night, precompute.STAGE.name)


def publish_accepting(night: Night, checks: Sequence[str], reason: str | None) -> dict[str, Any]:
    """Publishes, after a person let the night fail some checks; returns the stage's marker.

    A night that `run` has told to be refused is told anew, by its report and to the hooks.
    """
    accept_checks(night, checks, reason)
    marker = run_one_stage(night, publish.STAGE.name)
    if checks or NightFiles.of(night.run.path).outcome:
        seen_before = night.run.read_marker(monitor.STAGE.marker)
        monitored = run_stage(monitor.STAGE, night)
        if monitored != seen_before:
            tell_publication(night, monitored)
    return marker


def plan_night(night: Night, name: str | None = None) -> dict[str, Any]:
    """The plan: tonight's if its model is there, else what tonight would be with the last blessed model.

    Args:
        name: of a version of the model; what tonight would be with it.
    """
    has_model = night.has_chosen_model or lineage.model_of(night.run.path) is not None
    if name is None and (isinstance(night.job, ForeignJob) or has_model):
        with night.working():
            marker = run_stage(plan.STAGE, night)
        return dict(marker["plan"]) | planned_sizing(night, marker)
    model = model_by_name(night, name) if name is not None else model_so_far(night)
    space = plan.build_space(night, model)
    planned = plan.plan_space(night, model, space)
    return planned.to_json() | measured_sizing(night.job, model, space, planned)


def compare_backends(night: Night, points: int, seed: int, tolerance: float) -> dict[str, Any]:
    """Scores points in the pipeline's engine and on Vertex AI, with tonight's model or the last blessed one.

    Raises:
        RefusedError: there is no model yet.
    """
    from beam_jobs.vertex.parity import check_parity  # with it come Google's clients

    if isinstance(night.job, ForeignJob):
        model: artifacts.ScoringModel = artifacts.scoring_model(night.job, night.run.path)
    else:
        model = model_so_far(night)
    space = plan.build_space(night, model)
    planned = plan.plan_space(night, model, space)
    return check_parity(night, model, space, planned, points, seed, tolerance).to_json()


def model_so_far(night: Night) -> lineage.TrainedModel:
    """Tonight's model, or the last blessed one where tonight has none yet.

    Raises:
        RefusedError: there is none at all.
    """
    model = lineage.model_of(night.run.path)
    if model is None:
        model = lineage.last_blessed_model(night.run.job_folder)
        if model is None:
            raise RefusedError(
                f"no model yet; run `foretable run {night.job_file}`, or prepare, train and evaluate first"
            )
        night.console.line(f"with model {model.model_version} of {model.run_date}: {night.run.run_date} has none yet")
    return model


def check_skew(night: Night, rows: int | None) -> dict[str, Any]:
    """Compares training's features with serving's on the examples of the night that trained the model."""
    if isinstance(night.job, ForeignJob):
        raise RefusedError("skew: model.saved_model brings no transform graph, so there are no features to compare")
    model = model_so_far(night)
    trained = dataclasses.replace(night.run, run_date=model.run_date, run_id=model.run_id)
    report = evaluate.compare_features(night, model, trained, rows or night.trained_job.evaluation.skew_rows)
    return dataclasses.asdict(report) | {"problems": list(report.problems)}
