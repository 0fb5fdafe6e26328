"""What the commands of a night do."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from beam_jobs import artifacts, lineage, storage
from beam_jobs.locking import locked
from beam_jobs.night import Night, run_stage
from beam_jobs.stages import evaluate, plan, precompute, prepare, publish, train
from configs.errors import RefusedError

IN_ORDER = (prepare.STAGE, train.STAGE, evaluate.STAGE, plan.STAGE, precompute.STAGE, publish.STAGE)
STAGES = {stage.name: stage for stage in IN_ORDER}


def run_night(night: Night, wait: bool = False) -> dict[str, Any]:
    """Runs every stage that is not done, up to the published table; returns the last stage's marker."""
    with working(night, wait):
        for stage in STAGES.values():
            marker = run_stage(stage, night)
    return {"run_id": night.run.run_id, "run_date": night.run.run_date.isoformat(), "run_dir": night.run.path, **marker}


def run_one_stage(night: Night, name: str, wait: bool = False) -> dict[str, Any]:
    """Runs one stage, or skips it where it is done; returns its marker."""
    with working(night, wait):
        if name == train.STAGE.name and night.train_now:
            run_stage(STAGES["prepare"], night)  # a night on which no training was due has no transform graph yet
        return run_stage(STAGES[name], night)


@contextmanager
def working(night: Night, wait: bool = False) -> Iterator[None]:
    """Holds the night's lock, with the noise in the run's log and the resolved job beside it."""
    name, run_date = night.job.name, night.run.run_date
    with locked(night.lock_path, f"{name} for {run_date}", wait):
        job_path = night.run.file("job.json")
        if not storage.exists(job_path):
            storage.write_json(job_path, night.job.model_dump(mode="json"))
        night.console.line(f"{name} for {run_date}, run {night.run.run_id} in {night.run.path}")
        yield


def plan_night(night: Night) -> dict[str, Any]:
    """The plan: tonight's if its model is there, else what tonight would be with the last blessed model."""
    if lineage.model_of(night.run.path) is not None:
        with working(night):
            return dict(run_stage(plan.STAGE, night)["plan"])
    model = lineage.last_blessed_model(night.run.job_folder)
    if model is None:
        raise RefusedError(
            "plan: no model yet, and a plan needs its vocabularies and its speed; "
            f"run `foretable run {night.job_file}`, or prepare, train and evaluate, first"
        )
    night.console.line(f"planning with model {model.model_version} of {model.run_date}: tonight has none yet")
    return plan.plan_space(night, model, plan.build_space(night, model)).to_json()


def check_skew(night: Night, rows: int | None) -> dict[str, Any]:
    """Compares training's features with serving's on the examples of the night that trained the model."""
    model = artifacts.scoring_model(night.run.path)
    trained = dataclasses.replace(night.run, run_date=model.run_date, run_id=model.run_id)
    report = evaluate.compare_features(night, model, trained, rows or night.job.evaluation.skew_rows)
    return dataclasses.asdict(report) | {"problems": list(report.problems)}
