"""Metrics of each task, computed from summable state; what a better value is; nothing here knows of models or of Beam.

The classification metrics judge the class that the exported model itself answers, not one derived again from its
probability: what is measured is what is published.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.modeling import Binary, Regression
from configs.outputs import Output
from transforms.evaluation.metric_states import Categories, Contributions, State, counts, number
from transforms.evaluation.ranking import AUC_BINS, binned_auc, binned_average_precision

_SMALLEST_PROBABILITY = 1e-7  # a probability of 0 for what then happens would cost infinitely much
_CONSTANT_LABEL = 1e-12  # relative variance under which a label's variation is float64's rounding

_LOWER_IS_BETTER = frozenset({"mae", "rmse", "log_loss", "unusable_predictions"})
_HIGHER_IS_BETTER = frozenset(
    {"r2", "auc", "auc_precision_recall", "accuracy", "top_k_accuracy", "precision", "recall", "f1"}
)
_IDEAL = {"bias": 0.0, "calibration": 1.0}


class TaskMetrics(Protocol):
    """The metrics of one task, for one model's outputs."""

    def contributions(self, labels: pa.Array, predictions: Mapping[str, np.ndarray]) -> Contributions:
        """What each row adds to the state.

        Args:
            labels: `[num_rows]`, none of them missing.
            predictions: by output.
        """

    def metrics(self, state: State) -> dict[str, float | None]:
        """The metrics of the rows that the state was summed over; None where one is undefined.

        If a single prediction is not usable (not finite, no probability, no known class), all but the counts are None.
        """


@dataclasses.dataclass(frozen=True)
class RegressionMetrics:
    """mae, rmse, r2, bias (mean of prediction - label), and the mae of a constant predictor.

    Attributes:
        output: the predicted number.
        train_mean: of the label, which the constant predictor answers; sums are centred on it, to keep their precision.
    """

    output: str
    train_mean: float | None = None

    def contributions(self, labels: pa.Array, predictions: Mapping[str, np.ndarray]) -> Contributions:
        """See `TaskMetrics`."""
        predicted = predictions[self.output].astype(np.float64)
        usable = np.isfinite(predicted)
        label = _numbers(labels)
        error = np.where(usable, predicted - label, 0.0)
        centred = label - (self.train_mean or 0.0)
        return {
            **_row_counts(usable),
            "error": error,
            "absolute_error": np.abs(error),
            "squared_error": error**2,
            "label": centred,
            "absolute_label": np.abs(centred),
            "squared_label": centred**2,
        }

    def metrics(self, state: State) -> dict[str, float | None]:
        """See `TaskMetrics`."""
        rows = number(state, "rows")
        bias, label = _ratio(number(state, "error"), rows), _ratio(number(state, "label"), rows)
        squared_label = number(state, "squared_label")
        label_mean = None if label is None else label + (self.train_mean or 0.0)
        variation = squared_label - rows * (label or 0.0) ** 2
        varies = variation > _CONSTANT_LABEL * squared_label
        mean_squared = _ratio(number(state, "squared_error"), rows)
        values = {
            "mae": _ratio(number(state, "absolute_error"), rows),
            "rmse": None if mean_squared is None else math.sqrt(mean_squared),
            "r2": 1 - number(state, "squared_error") / variation if varies else None,
            "bias": bias,
            "label_mean": label_mean,
            "prediction_mean": None if label_mean is None or bias is None else label_mean + bias,
        }
        if self.train_mean is not None:
            values["mae_constant"] = _ratio(number(state, "absolute_label"), rows)
        return _with_counts(state, values)


@dataclasses.dataclass(frozen=True)
class BinaryMetrics:
    """auc, log_loss, calibration (mean probability / mean label); accuracy, precision, recall, f1 of the answer.

    `auc` and `auc_precision_recall` come from `AUC_BINS` equal bins of the probability. Rows in one bin count as ties:
    the exact auc is no further away than `auc_max_error`.

    Attributes:
        probability: output with the probability of 1.
        answer: output with the predicted class, 0 or 1.
    """

    probability: str
    answer: str

    def contributions(self, labels: pa.Array, predictions: Mapping[str, np.ndarray]) -> Contributions:
        """See `TaskMetrics`."""
        probability = predictions[self.probability].astype(np.float64)
        answer = predictions[self.answer].astype(np.int64)
        usable = (probability >= 0) & (probability <= 1) & ((answer == 0) | (answer == 1))
        label = _numbers(labels)
        positive = (label == 1).astype(np.int64)
        probability = np.where(usable, probability, 0.0)
        likelihood = np.where(positive == 1, probability, 1 - probability)
        bins = np.minimum((probability * AUC_BINS).astype(np.int64), AUC_BINS - 1)
        return {
            **_row_counts(usable),
            "label": label,
            "probability": probability,
            "log_loss": -np.log(np.maximum(likelihood, _SMALLEST_PROBABILITY)),
            "confusion": Categories(np.where(usable, 2 * positive + answer, -1), 4),
            "scores": Categories(np.where(usable, positive * AUC_BINS + bins, -1), 2 * AUC_BINS),
        }

    def metrics(self, state: State) -> dict[str, float | None]:
        """See `TaskMetrics`."""
        rows = number(state, "rows")
        true_negatives, false_positives, false_negatives, true_positives = counts(state, "confusion", 4).tolist()
        negatives, positives = counts(state, "scores", 2 * AUC_BINS).astype(np.float64).reshape(2, AUC_BINS)
        auc, auc_max_error = binned_auc(negatives, positives)
        values = {
            "auc": auc,
            "auc_max_error": auc_max_error,
            "auc_precision_recall": binned_average_precision(negatives, positives),
            "accuracy": _ratio(true_positives + true_negatives, rows),
            **_precision_recall(true_positives, true_positives + false_positives, true_positives + false_negatives),
            "log_loss": _ratio(number(state, "log_loss"), rows),
            "calibration": _ratio(number(state, "probability"), number(state, "label")),
            "label_mean": _ratio(number(state, "label"), rows),
            "prediction_mean": _ratio(number(state, "probability"), rows),
        }
        return _with_counts(state, values)


@dataclasses.dataclass(frozen=True)
class MulticlassMetrics:
    """accuracy, top_k_accuracy, log_loss, and `precision/CLASS`, `recall/CLASS`, `f1/CLASS`.

    A label that is none of the classes counts as answered wrongly, with probability 0.

    Attributes:
        answer: output with the predicted class.
        probabilities: output `[batch_size, num_classes]`.
        classes: in the order of their ids.
    """

    answer: str
    probabilities: str
    classes: tuple[str, ...]
    top_k: int = 3

    def contributions(self, labels: pa.Array, predictions: Mapping[str, np.ndarray]) -> Contributions:
        """See `TaskMetrics`."""
        probabilities = predictions[self.probabilities].astype(np.float64)
        label, answer = self._class_ids(labels), self._class_ids(pa.array(predictions[self.answer]))
        usable = np.isfinite(probabilities).all(axis=1) & (answer >= 0)
        known = usable & (label >= 0)
        of_label = np.where(known, probabilities[np.arange(len(label)), label], 0.0)
        # Among equal probabilities the lower id goes first, as in tf.math.top_k.
        ahead = (probabilities > of_label[:, None]).sum(axis=1)
        tied = probabilities == of_label[:, None]
        ahead += (tied & (np.arange(len(self.classes)) < label[:, None])).sum(axis=1)
        size = len(self.classes)
        return {
            **_row_counts(usable),
            "correct": (known & (label == answer)).astype(np.float64),
            "in_top_k": (known & (ahead < self.top_k)).astype(np.float64),
            "log_loss": -np.log(np.maximum(of_label, _SMALLEST_PROBABILITY)),
            "labels": Categories(label, size),
            "answers": Categories(answer, size),
            "hits": Categories(np.where(label == answer, label, -1), size),
        }

    def metrics(self, state: State) -> dict[str, float | None]:
        """See `TaskMetrics`."""
        rows, size = number(state, "rows"), len(self.classes)
        values = {
            "accuracy": _ratio(number(state, "correct"), rows),
            "top_k_accuracy": _ratio(number(state, "in_top_k"), rows),
            "log_loss": _ratio(number(state, "log_loss"), rows),
        }
        columns = (counts(state, name, size).tolist() for name in ("hits", "answers", "labels"))
        for label_class, *class_counts in zip(self.classes, *columns, strict=True):
            values |= {f"{name}/{label_class}": value for name, value in _precision_recall(*class_counts).items()}
        return _with_counts(state, values)

    def _class_ids(self, words: pa.Array) -> np.ndarray:
        text = words.cast(pa.string())
        ids = pc.index_in(text, value_set=pa.array(self.classes, pa.string()))
        return pc.fill_null(ids, -1).to_numpy().astype(np.int64)


def task_metrics(
    task: Any, outputs: Sequence[Output], classes: tuple[str, ...] | None = None, train_mean: float | None = None
) -> TaskMetrics:
    """The metrics of a task.

    Args:
        task: of `configs.modeling`.
        outputs: of the model, as `configs.outputs.model_outputs` gives them.
        classes: of a multiclass task, in the order of the model's ids.
        train_mean: of a regression's label, for its `mae_constant`.
    """
    names = [output.name for output in outputs]
    if isinstance(task, Regression):
        return RegressionMetrics(output=names[0], train_mean=train_mean)
    if isinstance(task, Binary):
        return BinaryMetrics(probability=names[0], answer=names[1])
    if not classes:
        raise ValueError("a multiclass task's metrics need its classes")
    return MulticlassMetrics(answer=names[0], probabilities=names[1], classes=classes, top_k=task.top_k)


def loss(metric: str, value: float) -> float | None:
    """How bad the value of a metric is: the lower, the better. None if the metric judges nothing, such as a mean."""
    name = metric.partition("/")[0]
    if name in _LOWER_IS_BETTER:
        return value
    if name in _HIGHER_IS_BETTER:
        return -value
    return abs(value - _IDEAL[name]) if name in _IDEAL else None


def _numbers(labels: pa.Array) -> np.ndarray:
    return np.asarray(labels.to_numpy(zero_copy_only=False), np.float64)


def _row_counts(usable: np.ndarray) -> dict[str, np.ndarray]:
    return {"rows": np.ones(len(usable)), "unusable": (~usable).astype(np.float64)}


def _with_counts(state: State, values: dict[str, float | None]) -> dict[str, float | None]:
    unusable = number(state, "unusable")
    known = {name: None if unusable else value for name, value in values.items()}
    return {"example_count": int(number(state, "rows")), "unusable_predictions": int(unusable), **known}


def _precision_recall(hits: float, answered: float, labelled: float) -> dict[str, float | None]:
    return {
        "precision": _ratio(hits, answered),
        "recall": _ratio(hits, labelled),
        "f1": _ratio(2 * hits, answered + labelled),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
