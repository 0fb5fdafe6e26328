"""Holds tonight's examples against the team's schema, the traffic, and the nights before; writes what it found.

`schema.pbtxt` is what tonight's examples were inferred to be, `distances.json` every distance with its threshold, and
`anomalies.pbtxt` all that is wrong, whether it refuses the night or not.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from beam_jobs import lineage
from beam_jobs.night import Night, feature_types
from beam_jobs.pipelines import Step, run_step
from beam_jobs.schemas import baseline_schema, infer_tonight, keep_schema_line
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory
from configs.job import TrainedJob
from configs.modeling import Multiclass, Regression
from configs.sources import SampleSource
from transforms.examples.anomaly import Anomaly, to_proto
from transforms.examples.schema_validation import check_schema
from transforms.monitoring.breaches import SEVERITIES, breach_anomalies, breach_text, breached_everywhere, measurements
from transforms.monitoring.comparison import FeatureDistance, compare_examples, same_examples
from transforms.monitoring.readings import dataset_of
from transforms.monitoring.traffic import TRAFFIC, DescribeTraffic


@dataclasses.dataclass(frozen=True)
class DataChecks:
    """What became of the checks.

    Attributes:
        training_is_due: tonight's examples are too far from those of the model that would be reused.
        training_drift: in which columns, in words.
    """

    anomalies: tuple[Anomaly, ...]
    training_is_due: bool
    training_drift: str


def check_data(
    night: Night,
    statistics: DatasetFeatureStatisticsList,
    found: Sequence[Anomaly],
    reused: lineage.TrainedModel | None,
) -> DataChecks:
    """Checks the examples and writes the three files.

    Args:
        statistics: of tonight's examples.
        found: anomalies that are known already, which come first.
        reused: the model of an earlier night, to measure drift from that night where training is due on drift.
    """
    job = night.trained_job
    inferred = infer_tonight(job, statistics)
    _write(night.run, "schema.pbtxt", inferred)
    baseline = baseline_schema(job, night.run)
    anomalies = [*found, *_check_schema(night, statistics, inferred, baseline)]
    traffic, traffic_anomalies = _traffic(night)
    skew = _compare_traffic(job, statistics, traffic) if traffic is not None else ()
    nights = lineage.published_nights(night.run, job.drift.nights)
    drift = {run: _compare_night(job, statistics, run) for run in nights}
    from_training = _compare_training(job, statistics, reused)
    _write_distances(night.run, skew, drift, from_training)
    anomalies += [*traffic_anomalies, *breach_anomalies([entry for entry in skew if entry.breached], "skew")]
    anomalies += breach_anomalies(breached_everywhere([entries for entries in drift.values() if entries]), "drift")
    anomalies += _stale(job, statistics, nights)
    last = next(iter(drift.values()), ())
    _write(night.run, "anomalies.pbtxt", to_proto(anomalies, baseline or inferred, measurements(skew, last)))
    due = [f"{entry.feature}: {breach_text(entry)}" for entry in from_training if entry.breached]
    return DataChecks(tuple(anomalies), bool(due), "; ".join(due))


def write_anomalies(run: RunDirectory, anomalies: Iterable[Anomaly]) -> None:
    """Writes anomalies of examples that came to no statistics, and so to no check."""
    _write(run, "anomalies.pbtxt", to_proto(anomalies, schema_pb2.Schema()))


def read_statistics(run: RunDirectory, name: str = "statistics.pbtxt") -> DatasetFeatureStatisticsList | None:
    """DatasetFeatureStatisticsList that a run has written; None where it has none, or none that this version reads."""
    path = run.file(name)
    if not storage.exists(path):
        return None
    try:
        return text_format.Parse(storage.read_bytes(path), DatasetFeatureStatisticsList())
    except text_format.ParseError:
        return None


def _check_schema(
    night: Night,
    statistics: DatasetFeatureStatisticsList,
    inferred: schema_pb2.Schema,
    baseline: schema_pb2.Schema | None,
) -> list[Anomaly]:
    """Against the team's schema, which refuses; or without one the last night's, which warns."""
    job = night.trained_job
    if baseline is None:
        is_lost = job.schema_file is not None
        return [Anomaly("schema", "ERROR", "no schema", keep_schema_line(job, night.job_file))] if is_lost else []
    found = check_schema(baseline, statistics, inferred).anomalies
    if job.schema_file is not None:
        return list(found)
    # What else a job reads tonight is the job file's doing, and known to whoever edited it.
    edits = ("SCHEMA_NEW_COLUMN", "SCHEMA_MISSING_COLUMN", "UNEXPECTED_DATA_TYPE")
    return [dataclasses.replace(anomaly, severity="WARNING") for anomaly in found if anomaly.reason not in edits]


def _traffic(night: Night) -> tuple[DatasetFeatureStatisticsList | None, list[Anomaly]]:
    job = night.trained_job
    if job.traffic is None:
        return None, []
    columns, path = feature_types(job), night.run.file("traffic_statistics.pbtxt")
    describe = DescribeTraffic(night.open_source(job.traffic, columns), columns, path)
    with night.console.activity("prepare", "reading the traffic"):
        run_step(Step("traffic", describe, night.run.file("traffic.json")), night)
    (summary,) = storage.read_json(night.run.file("traffic.json"))
    statistics = read_statistics(night.run, "traffic_statistics.pbtxt")
    assert statistics is not None, path
    anomalies = []
    if summary["bad_rows"]:
        long = f"{summary['bad_rows']:,} rows cannot be read as features, and are left out"
        anomalies.append(Anomaly("traffic", "WARNING", "bad rows in the traffic", long))
    if not dataset_of(statistics, TRAFFIC).num_examples:
        # What cannot be compared is no match: silence here would let any skew pass.
        long = "the traffic has no good row, so that nothing can be held against the train split; expected some"
        severity = SEVERITIES[job.skew.on_breach]
        anomalies.append(Anomaly("traffic", severity, "no traffic", long, "", "DATASET_LOW_NUM_EXAMPLES"))
    return statistics, anomalies


def _compare_traffic(
    job: TrainedJob, statistics: DatasetFeatureStatisticsList, traffic: DatasetFeatureStatisticsList
) -> tuple[FeatureDistance, ...]:
    return compare_examples(
        dataset_of(traffic, TRAFFIC),
        dataset_of(statistics, "train"),
        tuple(job.features),
        categorical_columns(job),
        job.skew,
        ("of the traffic", "of the train split"),
    )


def _compare_night(
    job: TrainedJob, statistics: DatasetFeatureStatisticsList, run: RunDirectory
) -> tuple[FeatureDistance, ...]:
    before = read_statistics(run)
    if before is None:
        return ()
    return compare_examples(
        dataset_of(statistics, "train"),
        dataset_of(before, "train"),
        job.compared_columns,
        categorical_columns(job),
        job.drift,
        ("tonight", f"on {run.run_date}"),
        label=None if isinstance(job.task, Multiclass) else job.label.name,
    )


def _compare_training(
    job: TrainedJob, statistics: DatasetFeatureStatisticsList, reused: lineage.TrainedModel | None
) -> tuple[FeatureDistance, ...]:
    if reused is None or job.model.training.every != "drift":
        return ()
    folder = reused.run_path.rsplit("/", 2)[0]
    return _compare_night(job, statistics, RunDirectory(folder, reused.run_date, reused.run_id))


def _stale(job: TrainedJob, statistics: DatasetFeatureStatisticsList, nights: Sequence[RunDirectory]) -> list[Anomaly]:
    """Whether tonight's rows are last night's; a generated sample's always are."""
    if not nights or job.drift.on_stale == "ignore" or isinstance(job.source, SampleSource):
        return []
    before = read_statistics(nights[0])
    if before is None or not same_examples(statistics, before):
        return []
    rows = int(sum(dataset.num_examples for dataset in statistics.datasets))
    long = f"the {rows:,} rows are those of {nights[0].run_date} again; is the source up to date?"
    return [Anomaly("drift.on_stale", SEVERITIES[job.drift.on_stale], "stale examples", long, "", "NO_DATA_IN_SPAN")]


def categorical_columns(job: TrainedJob) -> frozenset[str]:
    """Columns of whole numbers whose values are categories: the model has a vocabulary of them, or they are classes."""
    names = {
        name
        for name, feature in job.features.items()
        if feature.type == "int" and any(transform.kind == "vocabulary" for transform in feature.effective_transforms)
    }
    return frozenset(names if isinstance(job.task, Regression) else {*names, job.label.name})


def _write_distances(
    run: RunDirectory,
    skew: Sequence[FeatureDistance],
    drift: dict[RunDirectory, tuple[FeatureDistance, ...]],
    from_training: Sequence[FeatureDistance],
) -> None:
    tree: dict[str, list[dict[str, Any]]] = {
        "skew": [dataclasses.asdict(entry) for entry in skew],
        "drift": [
            dataclasses.asdict(entry) | {"against": before.run_date.isoformat()}
            for before, entries in drift.items()
            for entry in entries
        ],
        "training": [dataclasses.asdict(entry) for entry in from_training],
    }
    storage.write_json(run.file("distances.json"), tree)


def _write(run: RunDirectory, name: str, message: Message) -> None:
    storage.write_bytes(run.file(name), text_format.MessageToString(message, as_utf8=True).encode())
