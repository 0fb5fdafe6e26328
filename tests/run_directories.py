"""Makes prepared run directories for tests: raw shards, transform graph, transformed examples, and the files beside them."""

import json
import pathlib
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.job import Job
from configs.loading import parse_job
from configs.modeling import Multiclass
from transforms.columns import arrow_schema
from transforms.preprocessing.analysis import AnalyzeExamples, transform_hash
from transforms.preprocessing.functions import load_preprocessing_fn, make_preprocessing_fn
from transforms.preprocessing.transformed_examples import TransformExamples

NATALITY: dict[str, Any] = {
    "name": "natality",
    "source": {"kind": "sample"},
    "split": {"by": "hashmonth"},
    "features": {
        "is_male": {"type": "string"},
        "mother_age": {"type": "float", "missing": 27, "transforms": ["z_score", {"kind": "quantile_buckets", "count": 4}]},
        "plurality": {"type": "string", "missing": "Single(1)", "transforms": [{"kind": "vocabulary", "encoding": "embedding"}]},
        "siblings": {"type": "int", "missing": 0, "transforms": ["log1p", "vocabulary"]},
    },
    "crosses": [{"kind": "hashed", "features": ["plurality", "is_male"], "buckets": 8}],
    "label": {"name": "weight_pounds"},
    "model": {"network": {"hidden": [8], "dropout": 0.1}, "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.02}},
    "input_space": {
        "axes": {name: {"values": values} for name, values in [
            ("is_male", ["True"]), ("mother_age", [20.0]), ("plurality", ["Single(1)"]), ("siblings", [0])
        ]}
    },
}  # fmt: skip


def natality_job(**changes: Any) -> Job:
    """The test job, with top-level settings replaced."""
    return parse_job({**NATALITY, **changes})


def natality_rows(rows: int, seed: int = 0) -> pa.Table:
    """Rows in which the weight depends on each feature, some of them missing."""
    rng = np.random.default_rng(seed)
    is_male, plurality = rng.choice(["True", "False", "Unknown"], rows), rng.choice(["Single(1)", "Twins(2)"], rows)
    mother_age, siblings = rng.integers(15, 45, rows).astype(float), rng.integers(0, 4, rows)
    weight = 7 + 0.02 * mother_age - 2 * (plurality == "Twins(2)") + 0.3 * (is_male == "True") + 0.1 * siblings
    columns = {
        "is_male": pa.array(is_male),
        "mother_age": pa.array(mother_age, mask=rng.random(rows) < 0.05),
        "plurality": pa.array(plurality, mask=rng.random(rows) < 0.05),
        "siblings": pa.array(siblings, mask=rng.random(rows) < 0.05),
        "weight_pounds": pa.array(weight + rng.normal(0, 0.2, rows)),
    }
    return pa.table(columns)


def write_shards(run_dir: pathlib.Path, split: str, *tables: pa.Table) -> None:
    """Writes each table as a raw shard."""
    (run_dir / "examples").mkdir(parents=True, exist_ok=True)
    for index, table in enumerate(tables):
        pq.write_table(table, run_dir / "examples" / f"{split}-00000-{index:05d}.parquet")


def analyze(run_dir: pathlib.Path, job: Job, temp_dir: pathlib.Path | None = None) -> str:
    """Runs the analysis over the run directory's train shards and returns the transform graph's folder."""
    reference = job.preprocessing_fn
    fn = load_preprocessing_fn(reference) if reference else make_preprocessing_fn(job.features, job.crosses)
    folders = [str(run_dir / "examples"), str(run_dir / "transform_output"), str(temp_dir or run_dir / "temp")]
    with beam.Pipeline() as pipeline:
        _ = pipeline | AnalyzeExamples(job.features, fn, job.label.name, *folders)
    return folders[1]


def prepare(run_dir: pathlib.Path, job: Job, train: pa.Table, evaluation: pa.Table) -> pathlib.Path:
    """Makes a run directory that is ready for the trainer."""
    half = train.num_rows // 2
    write_shards(run_dir, "train", train.slice(0, half), train.slice(half))
    write_shards(run_dir, "eval", evaluation)
    transform_output_dir = analyze(run_dir, job)
    classes = None
    if isinstance(job.task, Multiclass):
        classes = job.task.classes or sorted(train[job.label.name].unique().to_pylist())
    with beam.Pipeline() as pipeline:
        _ = pipeline | TransformExamples(
            feature_types(job),
            job.label.name,
            classes,
            str(run_dir / "examples"),
            transform_output_dir,
            str(run_dir / "transformed_examples"),
        )
    (run_dir / "job.json").write_text(job.model_dump_json())
    marker = {"digest": "0123", "classes": classes, "transform_hash": transform_hash(transform_output_dir)}
    (run_dir / "examples.json").write_text(json.dumps(marker))
    return run_dir


def feature_types(job: Job) -> dict[str, Any]:
    """Raw features with their types."""
    return {name: feature.type for name, feature in job.features.items()}


def feature_rows(job: Job, **columns: list[Any]) -> pa.Table:
    """Rows of raw features, None where missing."""
    return pa.table(columns, schema=arrow_schema(feature_types(job)))
