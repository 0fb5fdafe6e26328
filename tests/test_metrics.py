"""Metrics against values worked out by hand or by brute force."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.features import Label
from configs.modeling import Binary, Multiclass, Regression
from configs.outputs import model_outputs
from transforms.evaluation.metric_states import add_states, sum_by_slice
from transforms.evaluation.metrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics, loss, task_metrics
from transforms.evaluation.ranking import binned_auc

BINARY = BinaryMetrics(probability="p", answer="y")
CLASSES = ("cat", "dog", "elk")
MULTICLASS = MulticlassMetrics(answer="y", probabilities="p", classes=CLASSES, top_k=2)


def state_of(metrics, labels, predictions):
    contributions = metrics.contributions(labels, predictions)
    return sum_by_slice(contributions, np.zeros(len(labels), np.int64), 1)[0]


def measure(metrics, labels, predictions):
    return metrics.metrics(state_of(metrics, labels, predictions))


def binary(labels, probabilities, threshold=0.5):
    p = np.array(probabilities, np.float32)
    return measure(BINARY, pa.array(labels), {"p": p, "y": (p >= threshold).astype(np.int64)})


def multiclass(labels, probabilities):
    p = np.array(probabilities, np.float32)
    answers = np.array([CLASSES[index].encode() for index in p.argmax(axis=1)], object)
    return measure(MULTICLASS, pa.array(labels), {"p": p, "y": answers})


def test_regression_by_hand():
    metrics = measure(
        RegressionMetrics("w", train_mean=2.0), pa.array([1.0, 2.0, 6.0]), {"w": np.array([2.0, 2.0, 4.0])}
    )
    assert metrics == pytest.approx(
        {
            "example_count": 3,
            "unusable_predictions": 0,
            "mae": 1.0,
            "rmse": math.sqrt(5 / 3),
            "r2": 1 - 5 / 14,  # squared errors 1 + 0 + 4; labels lie 2, 1 and 3 from their mean of 3
            "bias": -1 / 3,
            "label_mean": 3.0,
            "prediction_mean": 8 / 3,
            "mae_constant": 5 / 3,  # always answering 2
        }
    )


def test_regression_keeps_its_precision_far_from_zero():
    rng = np.random.default_rng(0)
    label = 1e9 + rng.normal(size=1_000)
    predicted = label + 0.1 * rng.normal(size=1_000)
    r2 = 1 - ((predicted - label) ** 2).sum() / ((label - label.mean()) ** 2).sum()
    assert measure(RegressionMetrics("w", 1e9), pa.array(label), {"w": predicted})["r2"] == pytest.approx(r2, rel=1e-9)


def test_regression_takes_int_labels_and_knows_no_constant_without_a_train_mean():
    metrics = measure(RegressionMetrics("w"), pa.array([3, 4], pa.int64()), {"w": np.array([3.0, 6.0], np.float32)})
    assert metrics["mae"] == 1.0
    assert "mae_constant" not in metrics


@pytest.mark.parametrize("label", [0.1, 0.0, 1e12 / 3], ids=["inexact", "zero", "large"])
def test_r2_of_a_constant_label_is_undefined(label):
    assert measure(RegressionMetrics("w"), pa.array([label] * 7), {"w": np.full(7, 0.2)})["r2"] is None


def test_binary_by_hand():
    metrics = binary([0, 0, 1, 1], [0.125, 0.75, 0.5, 0.875])
    assert metrics == pytest.approx(
        {
            "example_count": 4,
            "unusable_predictions": 0,
            "auc": 0.75,  # of four pairs, only (0.75, 0.5) is the wrong way round
            "auc_max_error": 0.0,
            "auc_precision_recall": 1 / 2 + (2 / 3) / 2,
            "accuracy": 0.75,
            "precision": 2 / 3,
            "recall": 1.0,
            "f1": 0.8,
            "log_loss": -np.log([0.875, 0.25, 0.5, 0.875]).mean(),
            "calibration": 2.25 / 2,
            "label_mean": 0.5,
            "prediction_mean": 0.5625,
        }
    )


def exact_auc(labels, scores):
    positives, negatives = scores[labels == 1], scores[labels == 0]
    pairs = positives[:, None] - negatives[None, :]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


@pytest.mark.parametrize("squeeze", [1.0, 0.01, 1e-4], ids=["spread", "narrow", "within-one-bin-or-two"])
def test_auc_is_within_its_stated_error_of_all_pairs(squeeze):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 600)
    scores = (np.clip(0.5 * rng.random(600) + 0.3 * labels, 0, 1) * squeeze).astype(np.float32)
    metrics = binary(labels, scores)
    assert abs(metrics["auc"] - exact_auc(labels, scores)) <= metrics["auc_max_error"] + 1e-12
    if squeeze == 1.0:
        assert metrics["auc"] == pytest.approx(exact_auc(labels, scores), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_binned_auc_is_all_pairs_with_ties_by_half(bins):
    negatives, positives = np.array(bins, float).T
    auc, error = binned_auc(negatives, positives)
    if negatives.sum() == 0 or positives.sum() == 0:
        assert (auc, error) == (None, None)
        return
    scores = np.repeat(np.tile(np.arange(len(bins)), 2), np.concatenate([negatives, positives]).astype(int))
    labels = np.repeat([0, 1], [int(negatives.sum()), int(positives.sum())])
    assert auc == pytest.approx(exact_auc(labels, scores))
    assert 0 <= error <= 0.5


def test_what_one_class_alone_cannot_tell_is_undefined():
    metrics = binary([0, 0], [0.1, 0.2])
    assert {name for name, value in metrics.items() if value is None} == {
        "auc",
        "auc_max_error",
        "auc_precision_recall",
        "precision",
        "recall",
        "f1",
        "calibration",
    }
    assert metrics["accuracy"] == 1.0


def test_the_class_that_the_model_answers_is_judged_not_its_probability():
    predictions = {"p": np.array([0.2, 0.3], np.float32), "y": np.array([0, 1])}
    assert measure(BINARY, pa.array([0, 1]), predictions)["accuracy"] == 1.0


def test_a_certain_and_wrong_probability_costs_much_but_not_infinitely_much():
    assert binary([1, 0], [0.0, 1.0])["log_loss"] == pytest.approx(-math.log(1e-7))


def test_multiclass_by_hand():
    metrics = multiclass(
        ["cat", "dog", "dog", "elk"], [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]
    )
    assert metrics == pytest.approx(
        {
            "example_count": 4,
            "unusable_predictions": 0,
            "accuracy": 0.5,
            "top_k_accuracy": 0.75,
            "log_loss": -np.log([0.7, 0.3, 0.8, 0.1]).mean(),
            "precision/cat": 1 / 3,
            "recall/cat": 1.0,
            "f1/cat": 0.5,
            "precision/dog": 1.0,
            "recall/dog": 0.5,
            "f1/dog": 2 / 3,
            "precision/elk": None,
            "recall/elk": 0.0,
            "f1/elk": 0.0,
        }
    )


def test_equal_probabilities_rank_by_class_id():
    third = [1 / 3] * 3
    assert [multiclass([name], [third])["top_k_accuracy"] for name in CLASSES] == [1.0, 1.0, 0.0]


def test_a_label_that_is_no_class_is_an_error_of_the_model_and_has_no_probability():
    metrics = multiclass(["yak", "cat"], [[0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
    assert (metrics["accuracy"], metrics["top_k_accuracy"]) == (0.5, 0.5)
    assert metrics["log_loss"] == pytest.approx(-math.log(1e-7) / 2)
    assert metrics["precision/elk"] == 0.0


def test_int_labels_are_classes_by_their_text():
    metrics = MulticlassMetrics(answer="y", probabilities="p", classes=("3", "10"))
    predictions = {"y": np.array([b"10", b"3"], object), "p": np.array([[0.1, 0.9], [0.8, 0.2]])}
    assert measure(metrics, pa.array([10, 10], pa.int64()), predictions)["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("metrics", "labels", "predictions"),
    [
        pytest.param(RegressionMetrics("w", 1.0), [1.0, 2.0], {"w": np.array([1.0, np.nan])}, id="regression-nan"),
        pytest.param(RegressionMetrics("w", 1.0), [1.0, 2.0], {"w": np.array([1.0, np.inf])}, id="regression-inf"),
        pytest.param(BINARY, [1, 0], {"p": np.array([np.nan, 0.2]), "y": np.array([0, 0])}, id="binary-nan"),
        pytest.param(BINARY, [1, 0], {"p": np.array([1.5, 0.2]), "y": np.array([1, 0])}, id="no-probability"),
        pytest.param(BINARY, [1, 0], {"p": np.array([0.5, 0.2]), "y": np.array([2, 0])}, id="no-class"),
        pytest.param(
            MULTICLASS,
            ["cat", "dog"],
            {"p": np.array([[0.5, 0.5, 0.0], [np.nan, 0.1, 0.1]]), "y": np.array([b"cat", b"cat"], object)},
            id="multiclass-nan",
        ),
        pytest.param(
            MULTICLASS,
            ["cat", "dog"],
            {"p": np.full((2, 3), 1 / 3), "y": np.array([b"cat", b"cow"], object)},
            id="unknown-answer",
        ),
    ],
)
def test_one_unusable_prediction_leaves_nothing_defined(metrics, labels, predictions):
    measured = measure(metrics, pa.array(labels), predictions)
    assert (measured.pop("example_count"), measured.pop("unusable_predictions")) == (2, 1)
    assert set(measured.values()) == {None}


def halves(metrics, labels, predictions, cut):
    first = state_of(metrics, labels[:cut], {name: values[:cut] for name, values in predictions.items()})
    second = state_of(metrics, labels[cut:], {name: values[cut:] for name, values in predictions.items()})
    return metrics.metrics(add_states(first, second))


@settings(max_examples=40)
@given(
    st.integers(1, 50),
    st.integers(0, 50),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["regression", "binary", "classes"]),
)
def test_metrics_of_merged_states_are_the_metrics_of_all_rows(size, cut, seed, task):
    rng = np.random.default_rng(seed)
    if task == "regression":
        metrics, labels = RegressionMetrics("w", 0.5), pa.array(rng.normal(size=size))
        predictions = {"w": rng.normal(size=size).astype(np.float32)}
    elif task == "binary":
        metrics, labels = BINARY, pa.array(rng.integers(0, 2, size))
        p = rng.random(size).astype(np.float32)
        predictions = {"p": p, "y": (p >= 0.5).astype(np.int64)}
    else:
        metrics, labels = MULTICLASS, pa.array(rng.choice([*CLASSES, "yak"], size))
        p = rng.dirichlet(np.ones(3), size)
        predictions = {"p": p, "y": np.array(CLASSES)[p.argmax(axis=1)].astype(object)}
    whole = measure(metrics, labels, predictions)
    merged = halves(metrics, labels, predictions, min(cut, size))
    assert [name for name, value in merged.items() if value is None] == [
        n for n, value in whole.items() if value is None
    ]
    assert {name: value or 0 for name, value in merged.items()} == pytest.approx(
        {name: value or 0 for name, value in whole.items()}, rel=1e-9, abs=1e-9
    )


def test_metrics_read_the_outputs_that_the_exporter_names():
    label = Label(name="tip")
    regression, binary_task, classes = (
        Regression(kind="regression"),
        Binary(kind="binary"),
        Multiclass(kind="multiclass", top_k=2),
    )
    assert task_metrics(regression, model_outputs(label, regression), None, 7.0) == RegressionMetrics("tip", 7.0)
    assert task_metrics(binary_task, model_outputs(label, binary_task)) == BinaryMetrics("tip_probability", "tip")
    assert task_metrics(classes, model_outputs(label, classes, CLASSES), CLASSES) == MulticlassMetrics(
        answer="tip", probabilities="tip_probabilities", classes=CLASSES, top_k=2
    )


@pytest.mark.parametrize(
    ("metric", "worse", "better"),
    [
        ("mae", 2.0, 1.0),
        ("log_loss", 0.7, 0.2),
        ("auc", 0.6, 0.7),
        ("precision/dog", 0.1, 0.2),
        ("bias", -0.5, 0.1),
        ("calibration", 0.7, 1.1),
    ],
)
def test_direction_is_known_from_the_metric(metric, worse, better):
    assert loss(metric, worse) > loss(metric, better)


@pytest.mark.parametrize("metric", ["label_mean", "prediction_mean", "example_count", "mae_constant", "auc_max_error"])
def test_what_only_describes_has_no_direction(metric):
    assert loss(metric, 1.0) is None
