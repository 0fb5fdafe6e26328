"""Whether the thresholds on skew and drift are for columns that are there."""

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from configs.agreement import Problem
from configs.monitoring import Skew

if TYPE_CHECKING:
    from configs.job import TrainedJob


def monitoring_problems(job: "TrainedJob") -> list[Problem]:
    """What does not fit together between `skew`, `drift`, `traffic` and the columns."""
    problems = [*_unknown("skew", list(job.skew.features), list(job.features), "a feature")]
    problems += _unknown("drift", list(job.drift.features), job.compared_columns, "a feature, column or label")
    if job.traffic is None and job.skew != Skew():
        problems.append((("skew",), job.skew.model_dump(), "expected a traffic source to measure it on"))
    return problems


def _unknown(node: str, names: Sequence[str], known: Sequence[str], expected: str) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
            yield (node, "features"), name, f"expected {expected}{hint}"
