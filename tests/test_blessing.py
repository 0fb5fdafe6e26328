"""The verdict: what passes, what does not, and the reasons in words."""

import dataclasses
import json

import pytest

from configs.modeling import ChangeThreshold, Threshold
from transforms.evaluation.blessing import Blessing, judge
from transforms.evaluation.skew import SkewReport
from transforms.evaluation.slicing import ModelMetrics, SliceMetrics


def model_metrics(overall: dict, **by_plurality: dict) -> ModelMetrics:
    def entry(name: str, columns: dict, metrics: dict) -> SliceMetrics:
        return SliceMetrics(name, columns, {"example_count": 1_000, "unusable_predictions": 0, **metrics})

    slices = [entry("overall", {}, overall)]
    slices += [entry(f"plurality={value}", {"plurality": value}, of) for value, of in by_plurality.items()]
    return ModelMetrics(tuple(slices))


def verdict(metrics, baseline=None, skew=None, **threshold) -> Blessing:
    return judge(metrics, baseline, [Threshold(**threshold)], skew)


@pytest.mark.parametrize(
    ("metric", "threshold", "value", "reason"),
    [
        ("mae", {"upper_bound": 1.0}, 1.0, None),
        ("mae", {"upper_bound": 1.0}, 1.25, "mae is 1.25 on overall (1,000 examples), expected at most 1"),
        ("auc", {"lower_bound": 0.75}, 0.75, None),
        ("auc", {"lower_bound": 0.75}, 0.5, "auc is 0.5 on overall (1,000 examples), expected at least 0.75"),
        ("mae", {"upper_bound": 1.0}, None, "mae is undefined on overall (1,000 examples)"),
        ("mae", {"change": ChangeThreshold(absolute=1)}, None, "mae is undefined on overall (1,000 examples)"),
    ],
    ids=["at-upper", "above-upper", "at-lower", "below-lower", "undefined", "undefined-without-baseline"],
)
def test_bounds_are_inclusive_and_undefined_passes_nothing(metric, threshold, value, reason):
    blessing = verdict(model_metrics({metric: value}), metric=metric, **threshold)
    assert blessing.blessed == (reason is None)
    assert blessing.reasons == (() if reason is None else (reason,))
    assert [check.result for check in blessing.checks] == ["passed" if reason is None else "failed"]


@pytest.mark.parametrize(
    ("metric", "change", "before", "value", "blessed"),
    [
        ("mae", {"absolute": 0.25}, 1.0, 1.25, True),
        ("mae", {"absolute": 0.25}, 1.0, 1.26, False),
        ("mae", {"absolute": 0.0}, 1.0, 0.5, True),
        ("auc", {"absolute": 0.25}, 0.75, 0.5, True),
        ("auc", {"absolute": 0.25}, 0.75, 0.49, False),
        ("auc", {"absolute": 0.0}, 0.75, 0.9, True),
        ("mae", {"relative": 0.5}, 2.0, 3.0, True),
        ("mae", {"relative": 0.5}, 2.0, 3.1, False),
        ("mae", {"absolute": 5.0, "relative": 0.5}, 2.0, 3.1, False),
        ("mae", {"relative": 0.5}, 0.0, 0.0, True),
        ("mae", {"relative": 0.5}, 0.0, 0.1, False),
        ("auc", {"relative": 0.5}, 0.75, 0.375, True),
        ("auc", {"relative": 0.5}, 0.75, 0.37, False),
        ("r2", {"relative": 0.5}, -1.0, -1.5, True),
        ("r2", {"relative": 0.5}, -1.0, -1.6, False),
        ("bias", {"absolute": 0.5}, 0.25, -0.75, True),
        ("bias", {"absolute": 0.5}, 0.25, -1.0, False),
        ("calibration", {"absolute": 0.125}, 1.25, 0.75, True),
        ("calibration", {"absolute": 0.125}, 1.25, 0.5, False),
    ],
)
def test_change_counts_only_for_the_worse(metric, change, before, value, blessed):
    metrics, baseline = model_metrics({metric: value}), model_metrics({metric: before})
    blessing = verdict(metrics, baseline, metric=metric, change=ChangeThreshold(**change))
    assert blessing.blessed == blessed
    assert [check.baseline for check in blessing.checks] == [before] * len(change)


def test_a_change_for_the_worse_is_told_in_numbers():
    blessing = verdict(
        model_metrics({"mae": 1.1}), model_metrics({"mae": 1.0}), metric="mae", change=ChangeThreshold(absolute=0.05)
    )
    assert blessing.reasons == (
        "mae is 1.1 on overall (1,000 examples), 0.1 worse than the baseline's 1; at most 0.05 is allowed",
    )


def test_without_a_baseline_a_change_is_not_judged_but_a_value_is():
    threshold = {"metric": "mae", "upper_bound": 1.0, "change": ChangeThreshold(absolute=0.0)}
    blessing = verdict(model_metrics({"mae": 0.9}), **threshold)
    assert blessing.blessed
    assert [(c.bound, c.result, c.reason) for c in blessing.checks] == [
        ("upper_bound", "passed", ""),
        ("change.absolute", "skipped", "there is no baseline"),
    ]
    assert not verdict(model_metrics({"mae": 1.1}), **threshold).blessed


def test_a_baseline_that_is_undefined_or_lacks_the_slice_cannot_be_passed():
    threshold = {"metric": "mae", "slices": (("plurality",),), "change": ChangeThreshold(absolute=1.0)}
    metrics = model_metrics({"mae": 1.0}, one={"mae": 1.0})
    reason = "the baseline's mae is undefined on plurality=one (1,000 examples), so that a change cannot be judged"
    for baseline in (model_metrics({"mae": 1.0}), model_metrics({"mae": 1.0}, one={"mae": None})):
        assert verdict(metrics, baseline, **threshold).reasons == (reason,)


def test_every_slice_of_a_specification_is_judged_and_only_those():
    metrics = model_metrics({"mae": 9.0}, one={"mae": 1.0}, two={"mae": 3.0}, three={"mae": 4.0})
    blessing = verdict(metrics, metric="mae", upper_bound=2.0, slices=(("plurality",),))
    assert blessing.reasons == (
        "mae is 3 on plurality=two (1,000 examples), expected at most 2",
        "mae is 4 on plurality=three (1,000 examples), expected at most 2",
    )
    assert [(check.slice, check.result) for check in blessing.checks] == [
        ("plurality=one", "passed"),
        ("plurality=two", "failed"),
        ("plurality=three", "failed"),
    ]


def test_small_slices_are_left_out_but_not_all_of_them():
    metrics = model_metrics({}, one={"mae": 1.0}, two={"mae": 3.0, "example_count": 99})
    threshold = {"metric": "mae", "upper_bound": 2.0, "slices": (("plurality",),)}
    blessing = verdict(metrics, min_examples=100, **threshold)
    assert blessing.blessed
    assert [(c.slice, c.result, c.reason) for c in blessing.checks] == [
        ("plurality=one", "passed", ""),
        ("plurality=two", "skipped", "99 examples are too few"),
    ]
    assert verdict(metrics, min_examples=99, **threshold).reasons == (
        "mae is 3 on plurality=two (99 examples), expected at most 2",
    )
    assert verdict(metrics, min_examples=5_000, **threshold).reasons == (
        "mae: no slice by plurality has 5,000 examples (min_examples) to judge by",
    )


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [
        ({"metric": "mea", "upper_bound": 1}, "unknown metric 'mea'; did you mean 'mae'?"),
        (
            {"metric": "zzz", "upper_bound": 1},
            "unknown metric 'zzz'; there are example_count, unusable_predictions, mae, label_mean",
        ),
        (
            {"metric": "mae", "upper_bound": 1, "slices": (("is_male",),)},
            "mae: no slice by is_male was evaluated; add it to evaluation.slices",
        ),
        (
            {"metric": "label_mean", "change": ChangeThreshold(absolute=1)},
            "label_mean has no better or worse, so that its change cannot be bounded; bound its value instead",
        ),
    ],
    ids=["misspelt", "unknown", "slice-never-seen", "no-direction"],
)
def test_a_threshold_that_judges_nothing_is_no_blessing(threshold, reason):
    metrics = model_metrics({"mae": 0.5, "label_mean": 7.0})
    assert verdict(metrics, metrics, **threshold).reasons == (reason,)


def test_unusable_predictions_are_never_blessed_even_without_thresholds():
    metrics = model_metrics({"mae": None, "unusable_predictions": 3})
    assert judge(metrics, None, []).reasons == ("3 of 1,000 predictions are not usable (NaN, say)",)
    assert judge(model_metrics({"mae": 1.0}), None, []).blessed


def test_skew_blocks_the_blessing():
    skew = SkewReport(
        rows=10_000, mismatches={"age_z_score": 13, "sex": 0}, single_rows=64, max_relative_difference=1e-7
    )
    blessing = verdict(model_metrics({"mae": 0.5}), skew=skew, metric="mae", upper_bound=1.0)
    assert not blessing.blessed
    assert blessing.reasons == ("age_z_score differs between training and serving in 13 of 10,000 rows",)


def test_a_verdict_survives_json_beside_other_keys():
    blessing = verdict(model_metrics({"mae": 2.0}), metric="mae", upper_bound=1.0)
    tree = json.loads(json.dumps({"format": 1, **dataclasses.asdict(blessing)}, allow_nan=False))
    assert Blessing.from_json(tree) == blessing
