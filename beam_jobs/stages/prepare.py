"""prepare: the source, read once, checked, split and described; then analysed and transformed for training."""

import os
import tempfile
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from beam_jobs import lineage
from beam_jobs.data_checks import check_data, read_statistics, write_anomalies
from beam_jobs.night import Night, Stage, feature_types
from beam_jobs.pipelines import Step, run_here, run_step
from beam_jobs.schemas import baseline_schema, schema_text
from beam_jobs.source_columns import changed_columns, refusal
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import MARKERS
from configs.errors import RefusedError
from configs.modeling import Multiclass
from configs.sources import SourceSplit
from transforms.examples.anomalies import find_anomalies
from transforms.examples.anomaly import Anomaly
from transforms.examples.ingestion import IngestExamples, IngestionSummary
from transforms.examples.schema_rules import bounds_of
from transforms.preprocessing.analysis import AnalyzeExamples, transform_hash
from transforms.preprocessing.functions import load_preprocessing_fn, make_preprocessing_fn
from transforms.preprocessing.transformed_examples import TransformExamples


def settings(night: Night) -> dict[str, str]:
    """The team's schema, and whether a model is to be trained, which decides how much there is to prepare."""
    return {"training": _training(night), "schema": storage.digest_of(schema_text(night.trained_job))}


def _training(night: Night) -> str:
    """What is known of it before the examples are; a night that has trained stays with what it was told then."""
    done = night.run.read_marker(MARKERS["prepare"])
    if done is not None and lineage.trained_tonight(night.run):
        return str(done["inputs"].get("training"))
    reused = lineage.model_to_reuse(night.trained_job, night.run, night.train_now)
    if reused is None:
        return "due"
    on_drift = "on drift from" if night.trained_job.model.training.every == "drift" else "reuses"
    return f"{on_drift} {reused.model_version} of {reused.run_date}"


def run(night: Night) -> dict[str, Any]:
    """Freezes the examples, describes and checks them, and prepares training on them.

    Raises:
        RefusedError: the examples are not what the job expects; a line for each reason.
    """
    job = night.trained_job
    try:
        examples, columns = _ingest(night)
    except RefusedError as error:
        write_anomalies(night.run, [refusal(night, error)])
        raise
    statistics = read_statistics(night.run)
    assert statistics is not None, night.run.path
    found = [
        *find_anomalies(examples, statistics, job.features, job.label, job.task, job.split, job.max_bad_rows),
        *changed_columns(night, columns),
    ]
    reused = lineage.model_to_reuse(job, night.run, night.train_now)
    checked = check_data(night, statistics, found, reused)
    _refuse(night, checked.anomalies)
    classes = _classes(night, examples)
    training_due = reused is None or checked.training_is_due
    if reused is not None and training_due:
        night.console.line(f"prepare      training is due on drift: {checked.training_drift}", "yellow")
    return {
        "rows": {split: examples.rows(split) for split in ("train", "eval")},
        "bad_rows": examples.bad_rows_count,
        "source_columns": columns,
        "classes": classes,
        "label_mean": _label_mean(statistics, job.label.name),
        "training_due": training_due,
        "transform_hash": _transform(night, classes) if training_due else None,
    }


def _ingest(night: Night) -> tuple[IngestionSummary, list[str] | None]:
    """Freezes the examples; also gives the names of all columns of their source, where it can tell them."""
    job, summary_path, folder = night.trained_job, night.run.file("ingestion.json"), night.run.file("examples")
    split = job.split
    schema = baseline_schema(job, night.run)
    bounds = {feature.name: bounds_of(feature) for feature in schema.feature} if schema is not None else {}
    reader = night.open_source(job.source, job.read_columns)
    ingest = IngestExamples(
        reader=reader,
        split=night.open_source(split.eval, job.read_columns) if isinstance(split, SourceSplit) else split,
        columns=job.read_columns,
        features=job.features,
        example_label=job.label,
        output_dir=night.run.path,
        max_bad_rows=job.max_bad_rows,
        bounds={name: pair for name, pair in bounds.items() if pair is not None},
    )
    storage.make_folder(folder)
    step = Step("ingest", ingest, summary_path, clear=lambda: storage.remove_all_but(folder, ()))
    with night.console.activity("prepare", "reading, checking and splitting the examples"):
        run_step(step, night)
    (summary,) = storage.read_json(summary_path)
    names = reader.column_names()
    return IngestionSummary.from_json(summary), list(names) if names is not None else None


def _refuse(night: Night, anomalies: tuple[Anomaly, ...]) -> None:
    errors = [anomaly for anomaly in anomalies if anomaly.severity == "ERROR"]
    if errors:
        raise RefusedError("\n".join(f"{anomaly.path}: {anomaly.long}" for anomaly in errors))
    for anomaly in anomalies:
        night.console.line(f"prepare      {anomaly.path}: {anomaly.long}", "yellow")


def _classes(night: Night, examples: IngestionSummary) -> list[str] | None:
    task = night.trained_job.task
    if not isinstance(task, Multiclass):
        return None
    return (
        list(task.classes)
        if task.classes is not None
        else [str(value) for value in examples.label_values("train") or ()]
    )


def _label_mean(statistics: statistics_pb2.DatasetFeatureStatisticsList, label: str) -> float | None:
    """Mean of a numeric label in the train split: what a constant predictor would answer."""
    for dataset in statistics.datasets:
        for feature in dataset.features:
            if dataset.name == "train" and feature.path.step[0] == label and feature.HasField("num_stats"):
                return float(feature.num_stats.mean)
    return None


def _transform(night: Night, classes: list[str] | None) -> str:
    """Analyses the train split, transforms both splits with the graph that comes of it; returns the graph's hash."""
    job, run_dir = night.trained_job, night.run
    transform_output, transformed = run_dir.file("transform_output"), run_dir.file("transformed_examples")
    if job.preprocessing_fn is not None:
        preprocessing_fn = load_preprocessing_fn(job.preprocessing_fn)
    else:
        preprocessing_fn = make_preprocessing_fn(job.features, job.crosses)
    with tempfile.TemporaryDirectory(prefix="foretable-") as temp_dir:
        analyze = AnalyzeExamples(
            features=job.features,
            preprocessing_fn=preprocessing_fn,
            label_name=job.label.name,
            examples_dir=run_dir.file("examples"),
            transform_output_dir=transform_output,
            temp_dir=os.path.join(temp_dir, "analysis"),
        )
        with night.console.activity("prepare", "analysing the train split"):
            # Here, whatever the runner: on workers, tf.Transform keeps its graphs in `temp_dir` by TensorFlow's own gs://
            # client, which takes neither the job's endpoints nor the credentials that the rest of the night has.
            run_here(lambda root: root | analyze, night)
    graph_hash = transform_hash(transform_output)
    transform = TransformExamples(
        features=feature_types(job),
        label_name=job.label.name,
        classes=tuple(classes) if classes is not None else None,
        examples_dir=run_dir.file("examples"),
        transform_output_dir=transform_output,
        transformed_examples_dir=transformed,
    )
    storage.make_folder(transformed)
    step = Step(
        name="transform",
        transform=transform,
        output=run_dir.file("transformed_examples.json"),
        version=graph_hash,
        clear=lambda: storage.remove_all_but(transformed, ()),
    )
    total = len(storage.list_files(run_dir.file("examples"), "*.parquet"))
    done = lambda: len(storage.list_files(transformed, "*.tfrecord.gz"))  # noqa: E731
    with night.console.progress("prepare", "files transformed", total, done):
        run_step(step, night)
    return graph_hash


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    bad_rows = f", {marker['bad_rows']:,} bad rows set aside" if marker["bad_rows"] else ""
    return f"{marker['rows']['train']:,} train rows, {marker['rows']['eval']:,} eval rows{bad_rows}"


STAGE = Stage("prepare", (), run, summary, settings, makes_model=True)
