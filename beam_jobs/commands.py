"""What the commands of a night do."""

import dataclasses
from typing import Any

from beam_jobs import lineage
from beam_jobs.night import Night, run_stage
from beam_jobs.stages import evaluate, plan, precompute, prepare, publish, train
from configs.errors import RefusedError
from configs.job import ForeignJob
from transforms.scoring.threads import settle_tensorflow_threads

IN_ORDER = (prepare.STAGE, train.STAGE, evaluate.STAGE, plan.STAGE, precompute.STAGE, publish.STAGE)
STAGES = {stage.name: stage for stage in IN_ORDER}


def run_night(night: Night) -> dict[str, Any]:
    """Runs every stage that is not done, up to the published table; returns the last stage's marker."""
    settle_tensorflow_threads()  # before any stage starts TensorFlow, which settles them for good
    absent = [stage.name for stage in STAGES.values() if not stage.is_part_of(night)]
    if absent:
        night.console.line(f"{', '.join(absent)} are no stages of this night: its model is given (model.saved_model)")
    for stage in STAGES.values():
        if stage.is_part_of(night):
            marker = run_stage(stage, night)
    return {"run_id": night.run.run_id, "run_date": night.run.run_date.isoformat(), "run_dir": night.run.path, **marker}


def run_one_stage(night: Night, name: str) -> dict[str, Any]:
    """Runs one stage, or skips it where it is done; returns its marker."""
    settle_tensorflow_threads()
    if name == train.STAGE.name and night.train_now and train.STAGE.is_part_of(night):
        run_stage(STAGES["prepare"], night)  # a night on which no training was due has no transform graph yet
    return run_stage(STAGES[name], night)


def plan_night(night: Night) -> dict[str, Any]:
    """The plan: tonight's if its model is there, else what tonight would be with the last blessed model."""
    if isinstance(night.job, ForeignJob) or lineage.model_of(night.run.path) is not None:
        with night.working():
            return dict(run_stage(plan.STAGE, night)["plan"])
    model = model_so_far(night)
    return plan.plan_space(night, model, plan.build_space(night, model)).to_json()


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
