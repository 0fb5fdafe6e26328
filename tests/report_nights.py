"""Run directories for tests of the report, the history and the hooks: every file that a night leaves, without a model.

The axes, the shards and the catalog are real (`nights`); the stages' markers and JSON files are written as the stages do.
"""

import datetime
import json
import pathlib

import numpy as np
from google.protobuf import text_format
from nights import AXES, COLUMNS, DAY, make_night, publish
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.workspace.run_directory import MARKERS, RunDirectory
from configs.job import AnyJob
from configs.loading import parse_job
from transforms.scoring.shards import TableColumn

ONE_DAY = datetime.timedelta(days=1)
TREE = {
    "name": "natality",
    "description": "Expected weight <at birth> & \"more\"",
    "source": {"kind": "sample"},
    "split": {"by": "day"},
    "features": {
        "sex": {"type": "string", "missing": "True", "description": "Sex of the <child>"},
        "weeks": {"type": "float", "missing": 38, "description": "Weeks of gestation"},
        "children": {"type": "int", "transforms": ["vocabulary"]},
    },
    "label": {"name": "weight", "description": "Weight at birth"},
    "input_space": {"axes": {"sex": {"values": ["True", "False", None]}, "weeks": {"range": [38, 38.5], "step": 0.25, "missing": True}, "children": {"values": [1, 2]}}},
}  # fmt: skip
TASKS = {
    "regression": {},
    "binary": {"task": "binary", "label": {"name": "weight", "type": "int"}},
    "multiclass": {"task": "multiclass", "label": {"name": "weight", "type": "string"}},
}
OUTPUTS = {
    "regression": COLUMNS[3:],
    "binary": (TableColumn("weight_probability", "float", "output"), TableColumn("weight", "int", "output")),
    "multiclass": (
        TableColumn("weight", "string", "output"),
        TableColumn("weight_probability_low", "float", "output"),
        TableColumn("weight_probability_high", "float", "output"),
    ),
    "foreign": (TableColumn("rent", "float", "output"), TableColumn("grade", "string", "output")),
}
METRICS = {
    "regression": {"example_count": 20, "mae": 0.75, "rmse": 1.0, "mae_constant": 0.9, "label_mean": 7.0},
    "binary": {"example_count": 20, "auc": 0.9, "accuracy": 0.8, "log_loss": 0.3, "label_mean": 0.25},
    "multiclass": {"example_count": 20, "accuracy": 0.8, "log_loss": 0.4, "f1/low": 0.7, "precision/low": 0.6, "recall/low": 0.9},
}  # fmt: skip


def make_job(folder, kind="regression", **changes) -> AnyJob:
    """The resolved job of a kind."""
    tree = {**TREE, "workspace": str(folder), **changes}
    if kind == "foreign":
        tree["model"] = {"saved_model": str(folder / "model")}
        tree["features"] = {name: {"type": feature["type"]} for name, feature in TREE["features"].items()}
        tree["features"]["sex"]["missing"], tree["features"]["weeks"]["missing"] = "True", 38
        for name in ("source", "split", "label"):
            del tree[name]
    else:
        tree |= TASKS[kind]
    return parse_job(tree)


def statistics_text(words=(("True", 60), ("False", 40)), weeks=(38, 38.25, 38.5), label="number"):
    """A `statistics.pbtxt` of 100 train rows and 20 eval rows."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    for name, rows in (("train", 100), ("eval", 20)):
        dataset = statistics.datasets.add(name=name, num_examples=rows)
        add_words(dataset, "sex", [(word, count * rows / 100) for word, count in words])
        add_numbers(dataset, "weeks", list(weeks), [rows / len(weeks)] * len(weeks))
        add_numbers(dataset, "children", [1, 2], [rows * 0.9, rows * 0.1])
        if label == "number":
            add_numbers(dataset, "weight", [2.0, 7.0, 9.5], [rows / 4, rows / 2, rows / 4])
        else:
            add_words(dataset, "weight", [("low", rows * 0.75), ("high", rows * 0.25)])
    return text_format.MessageToString(statistics, as_utf8=True)


def add_words(dataset, name, words):
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append(name)
    feature.string_stats.common_stats.num_non_missing = int(sum(count for _, count in words))
    feature.string_stats.unique = len(words)
    for rank, (word, count) in enumerate(words):
        feature.string_stats.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=word, sample_count=count)


def add_numbers(dataset, name, values, counts):
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    feature.path.step.append(name)
    stats = feature.num_stats
    stats.common_stats.num_non_missing, stats.common_stats.num_missing = int(sum(counts)), 1
    stats.mean, stats.min, stats.max = float(np.average(values, weights=counts)), min(values), max(values)
    stats.median = values[len(values) // 2]
    distribution = feature.custom_stats.add(name="distribution")
    for value, count in zip(values, counts, strict=True):
        distribution.histogram.buckets.add(low_value=value, high_value=value, sample_count=count)


def write_night(
    folder,
    kind="regression",
    date=DAY,
    run_id="r1",
    until="publish",
    night_value=0.0,
    blessed=True,
    job_changes=None,
    axes=AXES,
    outputs=None,
    **settings,
):
    """Writes a night as far as the stage `until`, published where that is `publish`; returns its run directory."""
    job = make_job(folder, kind, **(job_changes or {}))
    columns = (*COLUMNS[:3], *(OUTPUTS[kind] if outputs is None else outputs))
    night = make_night(
        folder, run_date=date, run_id=run_id, columns=columns, axes=axes, night_value=night_value, **settings
    )
    run = RunDirectory(str(folder / job.name), date, run_id)
    path = pathlib.Path(run.path)
    (path / "manifest.json").unlink()
    (path / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    stages = [stage for stage in MARKERS if kind != "foreign" or stage not in ("prepare", "train", "evaluate")]
    for stage in stages[: stages.index(until) + 1]:
        if stage == "publish":
            published = publish(DuckDBWarehouse(str(folder / job.name / f"{job.name}.duckdb")), night)
        _WRITERS[stage](run, path, kind, night, blessed)
        if stage == "publish":
            body = {"table": night.table, "view": f"{job.name}_predictions", "warehouse": "natality.duckdb"}
            body |= {"rows": night.manifest.rows, "checks": {"rows": "as planned"}, "status": published.status}
            run.write_marker(MARKERS[stage], body, {}, 0.5)
    return run


def _prepare(run, path, kind, night, blessed):
    (path / "statistics.pbtxt").write_text(statistics_text(label="words" if kind == "multiclass" else "number"))
    bad_rows = [{"file": "data/x.csv", "line": 7, "reason": "weeks: '<b>' is no number"}]
    (path / "bad_rows.jsonl").write_text("\n".join(map(json.dumps, bad_rows)))
    (path / "ingestion.json").write_text(json.dumps([{"shards": [], "bad_rows_count": 1, "bad_rows": bad_rows}]))
    anomalies = anomalies_pb2.Anomalies()
    reason = anomalies.anomaly_info["weeks"].reason.add(
        short_description="out of range", description="weeks: 99 is over 47"
    )
    anomalies.anomaly_info["weeks"].severity = anomalies_pb2.AnomalyInfo.WARNING
    assert reason.description
    (path / "anomalies.pbtxt").write_text(text_format.MessageToString(anomalies))
    drift = {"feature": "weeks", "measure": "jensen_shannon", "distance": 0.03, "threshold": 0.02, "on_breach": "warn", "breached": True, "about": "more 38", "against": "2023-12-31"}  # fmt: skip
    older = {**drift, "distance": 0.4, "against": "2023-12-30"}
    (path / "distances.json").write_text(json.dumps({"skew": [], "drift": [drift, older]}))
    body = {
        "rows": {"train": 100, "eval": 20},
        "bad_rows": 1,
        "classes": None,
        "label_mean": 0.25,
        "training_due": True,
    }
    run.write_marker(MARKERS["prepare"], body, {}, 4.0)


def _train(run, path, kind, night, blessed):
    body = {"trained_in": run.path, "model_version": "m1", "transform_hash": "t1", "epochs": 3, "best_epoch": 2}
    run.write_marker(MARKERS["train"], body, {}, 5.0)


def _evaluate(run, path, kind, night, blessed):
    overall = {"slice": "overall", "columns": {}, "metrics": METRICS[kind]}
    part = {"slice": "sex=True", "columns": {"sex": "True"}, "metrics": METRICS[kind]}
    metric = next(name for name in METRICS[kind] if name != "example_count")
    check = {"metric": metric, "slice": "overall", "bound": "upper_bound", "limit": 1.0, "value": METRICS[kind][metric], "baseline": None, "result": "passed" if blessed else "failed", "reason": ""}  # fmt: skip
    (path / "metrics.json").write_text(json.dumps([{"candidate": {"slices": [overall, part]}, "baseline": None}]))
    reasons = [] if blessed else [f"{metric} is worse than it may be"]
    body = {
        "blessed": blessed,
        "reasons": reasons,
        "checks": [check],
        "metrics": METRICS[kind],
        "baseline_note": "none",
    }
    run.write_marker(
        MARKERS["evaluate"], body | {"skew": {"rows": 10, "mismatches": {}}, "model_version": "m1"}, {}, 1.0
    )


def _plan(run, path, kind, night, blessed):
    axes = [{"name": name, "kind": "values", "columns": list(values), "rows": len(next(iter(values.values()))), "classes": None, "factor": 1.0} for name, values in AXES.items()]  # fmt: skip
    plan = {"cardinality": 24, "excluded": 0, "rows": 24, "bytes": 1000, "seconds": 0.1, "axes": axes, "exclude": None}
    run.write_marker(MARKERS["plan"], {"plan": plan}, {}, 0.25)


def _precompute(run, path, kind, night, blessed):
    run.write_marker(MARKERS["precompute"], {"manifest": night.manifest.to_json()}, {}, 0.25)


def _publish(run, path, kind, night, blessed):
    """The marker is written with what the warehouse answered."""


_WRITERS = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "plan": _plan,
    "precompute": _precompute,
    "publish": _publish,
}


def changes_tree(night_before="2023-12-31"):
    """A `changes.json` of a regression, with a budget that is broken."""
    output = {"changed": 6, "mean": 0.5, "mean_absolute": 0.7, "quantiles": {"0": -1.0, "50": 0.25, "100": 2.5}, "fraction": 0.25, "columns": ["weight"], "threshold": 0.1, "is_class": False, "limit": 0.02}  # fmt: skip
    key = {"sex": "True", "weeks": 38.25, "children": 1}
    mover = {"change": 2.5, "key": key, "before": {"weight": 4.0}, "now": {"weight": 6.5}}
    check = {"name": "changes.weight", "kind": "changes", "passed": False, "finding": "6 of 24 rows changed", "rows": 6, "of": 24, "limit": 0.02, "examples": [], "accepted": None}  # fmt: skip
    part = {
        "slice": {"sex": "True"},
        "common": 8,
        "new": 0,
        "gone": 0,
        "outputs": {"weight": {**output, "fraction": 0.5}},
    }
    return {
        "format": 1,
        "verdict": "refused",
        "refusals": ["check 'changes.weight' failed: 6 of 24 rows changed"],
        "checks": [check],
        "against": night_before,
        "note": None,
        "changed_fraction": 0.25,
        "overall": {"slice": {}, "common": 24, "new": 2, "gone": 3, "outputs": {"weight": output}},
        "slices": [part],
        "movers": {"weight": [mover]},
        "flips": {},
        "new_keys": [],
        "gone_keys": [],
    }
