"""The blessing: whether a model may be published, and why not, slice by slice.

The thresholds have TFMA's meaning: bounds are inclusive, and a change threshold allows so much and no more of a change
for the worse against the baseline. A metric that is undefined passes nothing.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from configs.modeling import Threshold
from transforms.evaluation.metrics import loss
from transforms.evaluation.slicing import ModelMetrics, SliceMetrics

if TYPE_CHECKING:  # reading a verdict back should not import Beam and tfx_bsl
    from transforms.evaluation.skew import SkewReport

Bound = Literal["lower_bound", "upper_bound", "change.absolute", "change.relative"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One bound on one metric of one slice.

    Attributes:
        limit: the bound's value.
        value: the candidate's metric.
        baseline: the baseline's, where the bound is on the change.
        result: `skipped` where the slice has too few examples or there is no baseline.
        reason: why it failed or was skipped.
    """

    metric: str
    slice: str
    bound: Bound
    limit: float
    value: float | None
    baseline: float | None
    result: Literal["passed", "failed", "skipped"]
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Blessing:
    """The verdict.

    Attributes:
        reasons: why not; empty if blessed.
        checks: every bound that was looked at.
    """

    blessed: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Blessing":
        """Reads back what `dataclasses.asdict` gave; further keys, such as a commit marker's, are left aside."""
        return cls(tree["blessed"], tuple(tree["reasons"]), tuple(Check(**check) for check in tree["checks"]))


def judge(
    metrics: ModelMetrics,
    baseline: ModelMetrics | None,
    thresholds: Sequence[Threshold],
    skew: "SkewReport | None" = None,
) -> Blessing:
    """Decides whether a model is blessed.

    Without a baseline, as on a job's first night, the thresholds on change are skipped. A threshold that found no slice
    to judge is a reason against the model, not for it; so is a prediction that is not usable, whatever the thresholds.

    Args:
        metrics: of the candidate.
        baseline: metrics of the last published model on the same examples.
        skew: what differs between training and serving.
    """
    reasons = list(skew.problems) if skew else []
    for entry in metrics.of_specification(()):
        unusable = entry.metrics["unusable_predictions"]
        if unusable:
            reasons.append(f"{unusable:,} of {entry.metrics['example_count']:,} predictions are not usable (NaN, say)")
    checks: list[Check] = []
    for threshold in thresholds:
        for columns in threshold.slices:
            found = list(_check_specification(metrics, baseline, threshold, columns))
            checks += (item for item in found if isinstance(item, Check))
            reasons += (item if isinstance(item, str) else item.reason for item in found if _against(item))
    distinct = tuple(dict.fromkeys(reasons))
    return Blessing(not distinct, distinct, tuple(checks))


def _against(item: Check | str) -> bool:
    return isinstance(item, str) or item.result == "failed"


def _check_specification(
    metrics: ModelMetrics, baseline: ModelMetrics | None, threshold: Threshold, columns: tuple[str, ...]
) -> Iterator[Check | str]:
    """Checks one threshold on each slice of one specification; a text is a reason of its own against the model."""
    entries = metrics.of_specification(columns)
    where = f"by {', '.join(columns)}" if columns else "overall"
    if not entries:
        yield f"{threshold.metric}: no slice {where} was evaluated; add it to evaluation.slices"
        return
    if threshold.metric not in entries[0].metrics:
        near = difflib.get_close_matches(threshold.metric, entries[0].metrics, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(entries[0].metrics)}"
        yield f"unknown metric {threshold.metric!r}; {hint}"
        return
    few = [(entry.metrics["example_count"] or 0) < threshold.min_examples for entry in entries]
    if all(few):
        yield f"{threshold.metric}: no slice {where} has {threshold.min_examples:,} examples (min_examples) to judge by"
    for entry, too_few in zip(entries, few, strict=True):
        for bound, limit in _bounds(threshold):
            yield _check(entry, baseline, threshold.metric, bound, limit, too_few)


def _bounds(threshold: Threshold) -> list[tuple[Bound, float]]:
    change = threshold.change
    bounds: list[tuple[Bound, float | None]] = [
        ("lower_bound", threshold.lower_bound),
        ("upper_bound", threshold.upper_bound),
        ("change.absolute", change.absolute if change else None),
        ("change.relative", change.relative if change else None),
    ]
    return [(bound, limit) for bound, limit in bounds if limit is not None]


def _check(
    entry: SliceMetrics, baseline: ModelMetrics | None, metric: str, bound: Bound, limit: float, few: bool
) -> Check:
    value = entry.metrics[metric]
    before: float | None = None
    if few:
        examples = entry.metrics["example_count"]
        return Check(metric, entry.slice, bound, limit, value, None, "skipped", f"{examples:,} examples are too few")
    if bound.startswith("change."):
        if baseline is None and value is not None:
            return Check(metric, entry.slice, bound, limit, value, None, "skipped", "there is no baseline")
        same_slice = baseline.of_slice(entry.slice) if baseline else None
        before = same_slice.metrics.get(metric) if same_slice else None
    reason = _objection(entry, metric, bound, limit, value, before)
    return Check(metric, entry.slice, bound, limit, value, before, "failed" if reason else "passed", reason)


def _objection(
    entry: SliceMetrics, metric: str, bound: Bound, limit: float, value: float | None, before: float | None
) -> str:
    """Why the bound does not hold; empty if it does."""
    where = f"on {entry.slice} ({entry.metrics['example_count']:,} examples)"
    if value is None:
        return f"{metric} is undefined {where}"
    if bound == "lower_bound":
        return "" if value >= limit else f"{metric} is {value:.6g} {where}, expected at least {limit:g}"
    if bound == "upper_bound":
        return "" if value <= limit else f"{metric} is {value:.6g} {where}, expected at most {limit:g}"
    if before is None:
        return f"the baseline's {metric} is undefined {where}, so that a change cannot be judged"
    now, then = loss(metric, value), loss(metric, before)
    if now is None or then is None:
        return f"{metric} has no better or worse, so that its change cannot be bounded; bound its value instead"
    worse = now - then
    allowed = limit if bound == "change.absolute" else limit * abs(then)
    if worse <= allowed:
        return ""
    amount = f"{limit:g}" if bound == "change.absolute" else f"{limit:g} of it"
    against = f"{worse:.3g} worse than the baseline's {before:.6g}"
    return f"{metric} is {value:.6g} {where}, {against}; at most {amount} is allowed"
