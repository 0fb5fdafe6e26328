"""Whether a model is any better than one that answers the same to everything: the least to ask where nothing is asked.

Told from the metrics of the whole eval split alone, and with a margin, so that a model which learned nothing from
shuffled labels does not pass by chance.
"""

import math
from collections.abc import Mapping

Metrics = Mapping[str, float | None]

_MIN_R2 = 0.01
_MIN_RECALL_GAIN = 0.02
_DEVIATIONS = 3.0


def constant_warnings(metrics: Metrics) -> tuple[str, ...]:
    """A line if the model is no better than a constant answer.

    Args:
        metrics: as in metrics.json, of a regression, a binary or a multiclass task.
    """
    problem = _regression(metrics) or _binary(metrics) or _multiclass(metrics)
    return (f"the model is no better than a constant answer: {problem}",) if problem else ()


def _regression(metrics: Metrics) -> str:
    mae, constant, r2 = metrics.get("mae"), metrics.get("mae_constant"), metrics.get("r2")
    if mae is None or constant is None:
        return ""
    if mae >= constant:
        return f"mae {mae:.4g} against {constant:.4g} for the train split's mean"
    return f"r2 is {r2:.4g}" if r2 is not None and r2 < _MIN_R2 else ""


def _binary(metrics: Metrics) -> str:
    """The auc of an answer by chance is a half, with the deviation of Mann and Whitney's statistic (1947)."""
    auc, share, rows = metrics.get("auc"), metrics.get("label_mean"), metrics.get("example_count")
    if auc is None or share is None or rows is None or not 0 < share < 1:
        return ""
    deviation = math.sqrt((rows + 1) / (12 * share * (1 - share))) / rows
    return f"auc is {auc:.4g}" if auc < 0.5 + _DEVIATIONS * deviation else ""


def _multiclass(metrics: Metrics) -> str:
    """A constant answer finds all rows of one class and none of the others."""
    recalls = [value for name, value in metrics.items() if name.startswith("recall/") and value is not None]
    if len(recalls) < 2:
        return ""
    mean = sum(recalls) / len(recalls)
    few = mean < 1 / len(recalls) + _MIN_RECALL_GAIN
    return f"the classes' mean recall is {mean:.4g}, of {len(recalls)} classes" if few else ""
