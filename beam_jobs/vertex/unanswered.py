"""Instances that came back without a prediction, told by their features and by what the model server said of them."""

import itertools
from collections.abc import Iterable

import numpy as np

from beam_jobs.vertex.predictions import Failure, shown
from transforms.scoring.classes import ClassSpace

SHOWN = 3
_MOST_KEPT = 100_000
"""Reasons by instance; that many fail together, for few reasons."""


class Unanswered:
    """What a round's jobs say of the instances that failed.

    Attributes:
        failed: instances that the jobs call failed; others were lost.
    """

    def __init__(self, cells: ClassSpace):
        """Knows of none yet."""
        self.failed = 0
        self._cells = cells
        self._reasons: dict[str, str] = {}
        self._general: dict[str, None] = {}

    def add(self, failures: Iterable[Failure]) -> None:
        """Takes what a job wrote of some."""
        for failure in failures:
            if failure.key is None:
                if len(self._general) < SHOWN:
                    self._general[failure.reason] = None
                continue
            self.failed += 1
            if len(self._reasons) < _MOST_KEPT:
                self._reasons.setdefault(failure.key, failure.reason)

    def described(self, missing: Iterable[np.ndarray], count: int, instances: int) -> str:
        """One line on what is missing.

        Args:
            missing: the cells, in order; the first few are looked at.
            count: of them.
            instances: that are needed in all.
        """
        first = list(itertools.islice(itertools.chain.from_iterable(array[:SHOWN] for array in missing), SHOWN))
        rows = self._cells.space.inputs(self._cells.first_points(np.array(first)).positions).to_pylist()
        texts = []
        for cell, row in zip(first, rows, strict=True):
            reason = self._reasons.get(str(cell))
            point = ", ".join(f"{name}={value!r}" for name, value in row.items())
            texts.append(f"({point}){'' if reason is None else f': {shown(reason)}'}")
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        general = f"; the jobs' errors say {', '.join(map(shown, self._general))}" if self._general else ""
        return f"no prediction came for {count:,} of {instances:,} instances: {'; '.join(texts)}{more}{general}"
