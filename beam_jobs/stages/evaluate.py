"""evaluate: the exported model, judged on raw eval examples beside the last published one, and checked for skew."""

import dataclasses
from typing import Any

from beam_jobs import lineage
from beam_jobs.model_registry import open_registry, trained_version
from beam_jobs.night import Night, Stage, feature_types
from beam_jobs.pipelines import Step, run_step
from beam_jobs.stages import prepare, train
from beam_jobs.warehouses import open_warehouse
from beam_jobs.workspace import artifacts, storage
from beam_jobs.workspace.run_directory import RunDirectory
from configs.errors import RefusedError
from configs.outputs import model_outputs
from transforms.evaluation.blessing import Blessing, judge
from transforms.evaluation.constant_answers import constant_warnings
from transforms.evaluation.metrics import task_metrics
from transforms.evaluation.models import EvaluatedModel, EvaluateModel, Evaluation, why_not_comparable
from transforms.evaluation.skew import SkewReport, measure_skew


def run(night: Night) -> dict[str, Any]:
    """Writes metrics.json; the verdict is the marker."""
    settings = night.trained_job.evaluation
    model = artifacts.trained_model(night.run.path)
    baseline, note = _baseline(night, model)
    evaluation = _evaluate(night, model, baseline)
    trained_tonight = model.run_path == night.run.path
    skew = compare_features(night, model, night.run, settings.skew_rows) if trained_tonight else None
    blessing = judge(evaluation.candidate, evaluation.baseline, settings.thresholds, skew)
    metrics = evaluation.candidate.of_specification(())[0].metrics
    warnings = constant_warnings(metrics)
    if warnings and settings.on_constant == "block":
        blessing = dataclasses.replace(blessing, blessed=False, reasons=(*blessing.reasons, *warnings))
    registered = _register(night, model, metrics if trained_tonight else None) if blessing.blessed else None
    for warning in warnings:
        advice = "" if settings.on_constant == "block" else "; evaluation.on_constant: block refuses such a model"
        night.console.line(f"evaluate     {warning}{advice}", "yellow")
    return {
        **dataclasses.asdict(blessing),
        "warnings": warnings,
        "model_version": model.model_version,
        "metrics": metrics,
        "skew": dataclasses.asdict(skew)
        if skew is not None
        else f"proven when the model was trained, in {model.run_path}",
        "baseline_note": note,
        **({"registered": registered} if registered is not None else {}),
    }


def _register(night: Night, model: lineage.TrainedModel, metrics: dict[str, Any] | None) -> str | None:
    """Adds the blessed model to the registry on Vertex AI, if the job has one; returns its name there.

    Args:
        metrics: of the night that trained it, if that is this one.
    """
    if night.job.vertex is None:
        return None
    with night.console.activity("evaluate", "registering the model on Vertex AI"):
        version = open_registry(night.job).register(trained_version(model, metrics))
    night.console.line(f"evaluate     registered: {version}, {version.resource}", "dim")
    return version.resource


def _evaluated(night: Night, model: lineage.TrainedModel) -> EvaluatedModel:
    prepared = night.run.read_marker(prepare.STAGE.marker)
    assert prepared is not None
    job = night.trained_job
    outputs = artifacts.outputs_of(job, model)
    metrics = task_metrics(job.task, outputs, model.classes, prepared["label_mean"])
    return EvaluatedModel(model.model_path, metrics, model.model_version)


def _baseline(night: Night, candidate: lineage.TrainedModel) -> tuple[lineage.TrainedModel | None, str]:
    """The last published model, to be judged on the same examples; or why there is none to compare with."""
    published = open_warehouse(night.job).current(night.job.name)
    if published is None:
        return None, "nothing is published yet"
    model = lineage.published_model(published.run_dir, published.model_version)
    if model is None:
        return None, f"the published night's model is gone: {published.run_dir}"
    outputs = model_outputs(night.trained_job.label, night.trained_job.task, model.classes)
    reason = why_not_comparable(model.model_path, feature_types(night.job), outputs)
    if reason is not None:
        night.console.line(f"evaluate     the published model cannot be compared: {reason}", "yellow")
        return None, reason
    same = "the same model" if model.model_version == candidate.model_version else f"model {model.model_version}"
    return model, f"{same}, published for {published.run_date}"


def _evaluate(night: Night, candidate: lineage.TrainedModel, baseline: lineage.TrainedModel | None) -> Evaluation:
    shards = storage.list_files(night.run.file("examples"), "eval-*.parquet")
    metrics_path = night.run.file("metrics.json")
    job = night.trained_job
    transform = EvaluateModel(
        shards=shards,
        candidate=_evaluated(night, candidate),
        features=feature_types(job),
        label_name=job.label.name,
        slices=job.evaluation.slices,
        baseline=_evaluated(night, baseline) if baseline is not None else None,
    )
    models = {"candidate": candidate} | ({"baseline": baseline} if baseline is not None else {})
    versions = {name: model.model_version for name, model in models.items()}

    def read() -> Evaluation:
        (evaluation,) = storage.read_json(metrics_path)
        return Evaluation.from_json(evaluation)

    # Metrics of other models, from another try of the night, lie in a file of the same name.
    holds = lambda: read().versions == versions  # noqa: E731
    with night.console.activity("evaluate", "scoring the eval examples"):
        run_step(Step("evaluate", transform, metrics_path, " ".join(versions.values()), holds), night)
    return read()


def compare_features(night: Night, model: lineage.TrainedModel, trained: RunDirectory, rows: int) -> SkewReport:
    """Compares what training read in the run `trained` with what the exported model makes of the same raw rows."""
    with artifacts.local_model(model) as model_path:
        pairs = artifacts.shard_pairs(trained)
        return measure_skew(model_path, pairs, feature_types(night.job), night.trained_job.label.name, rows)


def gate(marker: dict[str, Any]) -> None:
    """Lets only a blessed model through.

    Raises:
        RefusedError: it is not blessed; a line for each reason.
    """
    if not marker["blessed"]:
        version = marker["model_version"]
        raise RefusedError("\n".join(f"model {version} is not blessed: {reason}" for reason in marker["reasons"]))


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    metrics = marker["metrics"]
    shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in _SHOWN if metrics.get(name) is not None)
    verdict = "blessed" if Blessing.from_json(marker).blessed else "not blessed"
    return f"{verdict} on {metrics.get('example_count', 0):,} examples: {shown}"


_SHOWN = ("mae", "mae_constant", "rmse", "r2", "auc", "accuracy", "precision", "recall", "top_k_accuracy", "log_loss")

STAGE = Stage("evaluate", (prepare.STAGE, train.STAGE), run, summary, gate=gate, makes_model=True)
