"""Finds what is wrong with examples as a whole, before anything is trained on them."""

from collections.abc import Iterator, Mapping
from typing import Literal

from tensorflow_metadata.proto.v0 import statistics_pb2

from configs.features import Feature, Label
from configs.modeling import Binary, Multiclass, Task
from configs.sources import HashSplit, Split
from transforms.examples.anomaly import Anomaly
from transforms.examples.column_summaries import EXACT_VALUES
from transforms.examples.ingestion import IngestionSummary, LabelValue

_SHOWN = 3
_EMPTY = "DATASET_LOW_NUM_EXAMPLES"
_UNKNOWN_CLASS = "ENUM_TYPE_UNEXPECTED_STRING_VALUES"


def find_anomalies(
    summary: IngestionSummary,
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    features: Mapping[str, Feature],
    label: Label,
    task: Task,
    split: Split,
    max_bad_rows: int,
) -> tuple[Anomaly, ...]:
    """Checks examples against the job.

    Args:
        summary: of their ingestion.
        statistics: of the same examples.
        features: as declared.
        label: as declared.
        task: that the label must suit.
        split: as declared.
        max_bad_rows: rows that may be set aside.

    Returns:
        Errors and warnings; none if all is well.
    """
    return (
        *_bad_rows(summary, max_bad_rows),
        *_empty_splits(summary, split),
        *_label(summary, label, task),
        *_features(statistics, features),
    )


def _bad_rows(summary: IngestionSummary, max_bad_rows: int) -> Iterator[Anomaly]:
    count = summary.bad_rows_count
    if count == 0:
        return
    first = "; ".join(str(row) for row in summary.bad_rows[:_SHOWN])
    more = "; …" if count > _SHOWN else ""
    rows = f"{count} bad row{'s' if count > 1 else ''}"
    if count > max_bad_rows:
        long = f"{rows}, more than max_bad_rows={max_bad_rows}: {first}{more} (all in bad_rows.jsonl)"
        yield Anomaly("max_bad_rows", "ERROR", "too many bad rows", long)
    else:
        yield Anomaly("max_bad_rows", "WARNING", "bad rows set aside", f"{rows} set aside: {first}{more}")


def _empty_splits(summary: IngestionSummary, split: Split) -> Iterator[Anomaly]:
    for name in ("train", "eval"):
        if summary.rows(name):
            continue
        if not isinstance(split, HashSplit):
            where = "source" if name == "train" else "split.eval"
            long = f"the {name} split is empty: {where} has no good rows"
            yield Anomaly(where, "ERROR", f"empty {name} split", long, "", _EMPTY)
            continue
        by = ", ".join(split.by)
        setting = f"split.by=[{by}], split.eval={split.eval}"
        long = f"the {name} split is empty: {setting} over {_total(summary)} rows"
        yield Anomaly("split", "ERROR", f"empty {name} split", long, "", _EMPTY)


def _label(summary: IngestionSummary, label: Label, task: Task) -> Iterator[Anomaly]:
    path = f"label.{label.name}"
    train, evaluation = summary.label_values("train"), summary.label_values("eval")
    if train is not None and len(train) == 1:
        long = f"the label is {train[0]!r} in every row of the train split"
        yield Anomaly(path, "ERROR", "constant label", long, label.name, "FEATURE_TYPE_LOW_UNIQUE")
    if isinstance(task, Binary):
        for split, values in (("train", train), ("eval", evaluation)):
            wrong = _not_in(values, (0, 1))
            if wrong:
                long = f"expected 0 or 1 for a binary task, got {wrong} in {split}"
                yield Anomaly(path, "ERROR", "label not binary", long, label.name, "DOMAIN_INVALID_FOR_TYPE")
    if isinstance(task, Multiclass):
        yield from _classes(path, label.name, task, train, evaluation)


def _classes(
    path: str,
    label: str,
    task: Multiclass,
    train: tuple[LabelValue, ...] | None,
    evaluation: tuple[LabelValue, ...] | None,
) -> Iterator[Anomaly]:
    if train is None or evaluation is None:
        long = f"the label has more than {EXACT_VALUES} different values; is the task a regression?"
        yield Anomaly(path, "ERROR", "too many classes", long, label, "FEATURE_TYPE_HIGH_UNIQUE")
        return
    for split, values in (("train", train), ("eval", evaluation)):
        known = task.classes if task.classes is not None else tuple(map(str, train))
        wrong = _not_in(tuple(map(str, values)), known)
        if wrong and task.classes is not None:
            long = f"expected one of task.classes, got {wrong} in {split}"
            yield Anomaly(path, "ERROR", "unknown class", long, label, _UNKNOWN_CLASS)
        elif wrong:
            long = f"no row of the train split has the class {wrong} of {split}"
            yield Anomaly(path, "ERROR", "unknown class", long, label, _UNKNOWN_CLASS)


def _features(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, features: Mapping[str, Feature]
) -> Iterator[Anomaly]:
    for dataset in statistics.datasets:
        for stats in dataset.features:
            name = stats.path.step[0]
            if name not in features or dataset.num_examples == 0:
                continue
            path = f"features.{name}"
            is_text = stats.HasField("string_stats")
            common = stats.string_stats.common_stats if is_text else stats.num_stats.common_stats
            if common.num_non_missing == 0:
                severity: Literal["ERROR", "WARNING"] = "ERROR" if dataset.name == "train" else "WARNING"
                long = f"{name} is missing in all {dataset.num_examples} rows of the {dataset.name} split"
                yield Anomaly(path, severity, "feature wholly missing", long, name, "FEATURE_TYPE_NOT_PRESENT")
            elif dataset.name == "train" and _is_constant(stats) and common.num_missing == 0:
                long = f"{name} has one value in all {dataset.num_examples} rows of the train split"
                yield Anomaly(path, "WARNING", "constant feature", long, name, "FEATURE_TYPE_LOW_UNIQUE")


def _is_constant(stats: statistics_pb2.FeatureNameStatistics) -> bool:
    if stats.HasField("string_stats"):
        return bool(stats.string_stats.unique == 1)
    return bool(stats.num_stats.min == stats.num_stats.max)


def _not_in(values: tuple[LabelValue, ...] | None, known: tuple[LabelValue, ...]) -> str:
    """The first few values that are not known, as text."""
    if values is None:
        return f"more than {EXACT_VALUES} different values"
    wrong = [value for value in values if value not in known]
    more = ", …" if len(wrong) > _SHOWN else ""
    return ", ".join(repr(value) for value in wrong[:_SHOWN]) + more


def _total(summary: IngestionSummary) -> int:
    return sum(shard.rows for shard in summary.shards)
