"""What a constant predictor would score: the least that a model has to beat."""

import math
from collections.abc import Mapping
from typing import Any

from beam_jobs.report.feature_statistics import FeatureStatistics
from beam_jobs.report.subject import Subject


def constant_metrics(subject: Subject, metrics: Mapping[str, float | None], overall: bool) -> dict[str, float]:
    """Metrics of the predictor that answers what is most common, or the mean, in the train split.

    Args:
        metrics: of the model on a slice, which say how its labels are distributed.
        overall: whether the slice is the whole eval split.
    """
    task = (subject.job.get("task") or {}).get("kind")
    if task == "regression":
        value = metrics.get("mae_constant")
        return {} if value is None else {"mae": value}
    if task == "binary":
        threshold = float(subject.job["task"].get("threshold", 0.5))
        return _binary(subject.files.markers.get("prepare", {}).get("label_mean"), metrics.get("label_mean"), threshold)
    if task == "multiclass" and overall:
        label = subject.job["label"]["name"]
        train, evaluation = (subject.statistics.get(split, {}).get(label) for split in ("train", "eval"))
        return _multiclass(train, evaluation) if train is not None and evaluation is not None else {}
    return {}


def _binary(train_mean: Any, label_mean: float | None, threshold: float) -> dict[str, float]:
    if train_mean is None or label_mean is None:
        return {}
    metrics = {"auc": 0.5, "accuracy": label_mean if train_mean >= threshold else 1 - label_mean}
    if 0 < train_mean < 1:
        metrics["log_loss"] = -label_mean * math.log(train_mean) - (1 - label_mean) * math.log(1 - train_mean)
    return metrics


def _multiclass(train: FeatureStatistics, evaluation: FeatureStatistics) -> dict[str, float]:
    """Of labels whose every class is counted."""
    if not train.words or not evaluation.count or len(train.words) < (train.unique or 0):
        return {}
    shares = {word: count / train.count for word, count in train.words}
    labels = {word: count / evaluation.count for word, count in evaluation.words}
    metrics = {"accuracy": labels.get(train.words[0][0], 0.0)}
    if all(word in shares for word in labels):
        metrics["log_loss"] = -sum(part * math.log(shares[word]) for word, part in labels.items())
    return metrics
