"""prepare: the source, read once, checked, split and described; then analysed and transformed for training."""

import dataclasses
import os
import tempfile
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2

from beam_jobs import lineage, storage
from beam_jobs.night import Night, Stage, feature_types
from beam_jobs.pipelines import run_pipeline
from configs.errors import RefusedError
from configs.modeling import Multiclass
from transforms.examples.anomalies import Anomaly, find_anomalies
from transforms.examples.ingestion import IngestExamples, IngestionSummary
from transforms.examples.schema import infer_schema
from transforms.json_files import WriteJson
from transforms.preprocessing.analysis import AnalyzeExamples, transform_hash
from transforms.preprocessing.functions import load_preprocessing_fn, make_preprocessing_fn
from transforms.preprocessing.transformed_examples import TransformExamples


def settings(night: Night) -> dict[str, str]:
    """Whether a model is to be trained decides how much there is to prepare."""
    reused = lineage.model_to_reuse(night.trained_job, night.run, night.train_now)
    return {"training": "due" if reused is None else f"reuses {reused.model_version} of {reused.run_date}"}


def run(night: Night) -> dict[str, Any]:
    """Freezes the examples, describes and checks them, and prepares training on them.

    Raises:
        RefusedError: the examples are not what the job expects; a line for each reason.
    """
    job = night.trained_job
    examples = _ingest(night)
    statistics = text_format.Parse(
        storage.read_bytes(night.run.file("statistics.pbtxt")), statistics_pb2.DatasetFeatureStatisticsList()
    )
    schema = infer_schema(statistics, job.read_columns | {job.label.name: job.label.type}, job.features)
    storage.write_bytes(night.run.file("schema.pbtxt"), text_format.MessageToString(schema, as_utf8=True).encode())
    anomalies = find_anomalies(examples, statistics, job.features, job.label, job.task, job.split, job.max_bad_rows)
    storage.write_json(night.run.file("anomalies.json"), [dataclasses.asdict(anomaly) for anomaly in anomalies])
    _refuse(night, anomalies)
    classes = _classes(night, examples)
    training_due = settings(night)["training"] == "due"
    return {
        "rows": {split: examples.rows(split) for split in ("train", "eval")},
        "bad_rows": examples.bad_rows_count,
        "classes": classes,
        "label_mean": _label_mean(statistics, job.label.name),
        "training_due": training_due,
        "transform_hash": _transform(night, classes) if training_due else None,
    }


def _ingest(night: Night) -> IngestionSummary:
    job, summary_path, folder = night.trained_job, night.run.file("ingestion.json"), night.run.file("examples")
    ingest = IngestExamples(
        source=job.source,
        split=job.split,
        columns=job.read_columns,
        features=job.features,
        example_label=job.label,
        output_dir=night.run.path,
        max_bad_rows=job.max_bad_rows,
    )
    storage.make_folder(folder)
    storage.remove_all_but(folder, ())
    with night.console.activity("prepare", "reading, checking and splitting the examples"):
        run_pipeline(lambda root: root | ingest | WriteJson(summary_path), night.beam_options)
    (summary,) = storage.read_json(summary_path)
    return IngestionSummary.from_json(summary)


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
            run_pipeline(lambda root: root | analyze, night.beam_options)
    transform = TransformExamples(
        features=feature_types(job),
        label_name=job.label.name,
        classes=tuple(classes) if classes is not None else None,
        examples_dir=run_dir.file("examples"),
        transform_output_dir=transform_output,
        transformed_examples_dir=transformed,
    )
    storage.make_folder(transformed)
    storage.remove_all_but(transformed, ())
    total = len(storage.list_files(run_dir.file("examples"), "*.parquet"))
    done = lambda: len(storage.list_files(transformed, "*.tfrecord.gz"))  # noqa: E731
    with night.console.progress("prepare", "files transformed", total, done):
        run_pipeline(lambda root: root | transform, night.beam_options)
    return transform_hash(transform_output)


def summary(marker: dict[str, Any]) -> str:
    """One line about the stage's marker."""
    bad_rows = f", {marker['bad_rows']:,} bad rows set aside" if marker["bad_rows"] else ""
    return f"{marker['rows']['train']:,} train rows, {marker['rows']['eval']:,} eval rows{bad_rows}"


STAGE = Stage("prepare", (), run, summary, settings, makes_model=True)
