"""A model that answers the same to everything, or has learnt nothing, is told from its metrics."""

import numpy as np
import pyarrow as pa
import pytest

from transforms.evaluation.constant_answers import constant_warnings
from transforms.evaluation.metric_states import sum_by_slice
from transforms.evaluation.metrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics

ROWS = 4000
GENERATOR = np.random.default_rng(2)
NOISE = GENERATOR.normal(size=ROWS)
WEIGHTS = 7 + GENERATOR.normal(size=ROWS)
TIPS = (GENERATOR.random(ROWS) < 0.2).astype(np.int64)
CLASSES = ("cat", "dog", "elk")
ANIMALS = GENERATOR.choice(3, ROWS, p=[0.7, 0.2, 0.1])


def measured(metrics, labels, predictions):
    state = sum_by_slice(metrics.contributions(labels, predictions), np.zeros(ROWS, np.int64), 1)[0]
    return metrics.metrics(state)


def regression(predictions):
    return measured(RegressionMetrics("w", train_mean=7.0), pa.array(WEIGHTS), {"w": predictions})


def binary(probabilities):
    p = np.clip(probabilities, 0, 1).astype(np.float32)
    return measured(BinaryMetrics("p", "y"), pa.array(TIPS), {"p": p, "y": (p >= 0.5).astype(np.int64)})


def multiclass(answers):
    words = np.array([CLASSES[index].encode() for index in answers], object)
    labels = pa.array([CLASSES[index] for index in ANIMALS])
    return measured(MulticlassMetrics("y", "p", CLASSES, 2), labels, {"p": np.eye(3)[answers], "y": words})


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (regression(np.full(ROWS, 7.0)), "mae 0.7896 against 0.7896"),
        (regression(np.full(ROWS, 3000.0)), "mae 2993 against 0.7896"),
        (regression(7 + 0.05 * NOISE), "mae 0."),
        (binary(np.full(ROWS, 0.2)), "auc is 0.5"),
        (binary(0.5 + 0.1 * NOISE), "auc is 0."),
        (multiclass(np.zeros(ROWS, np.int64)), "the classes' mean recall is 0.3333, of 3 classes"),
        (multiclass(np.random.default_rng(0).permutation(ANIMALS)), "the classes' mean recall is 0.3"),
    ],
    ids=["constant", "other unit", "shuffled", "constant share", "shuffled share", "constant class", "shuffled class"],
)
def test_no_better_than_a_constant(metrics, reason):
    (line,) = constant_warnings(metrics)
    assert line.startswith(f"the model is no better than a constant answer: {reason}")


@pytest.mark.parametrize(
    "metrics",
    [
        regression(7 + 0.3 * (WEIGHTS - 7) + 0.1 * NOISE),
        binary(0.2 + 0.1 * TIPS + 0.1 * NOISE),
        multiclass(np.where(np.arange(ROWS) % 4 == 0, ANIMALS, 0)),
        {"mae": None, "mae_constant": None, "r2": None, "example_count": 0},
        {"auc": None, "label_mean": 0.0, "example_count": 5},
    ],
    ids=["regression", "binary", "multiclass", "nothing to judge", "one class only"],
)
def test_a_model_that_has_learnt_something(metrics):
    assert constant_warnings(metrics) == ()
