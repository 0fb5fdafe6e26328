"""Instances that came back without a prediction, told by their features and by what the model server said of them."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from beam_jobs.vertex.predictions import Failure, shown
from transforms.files import create_atomically
from transforms.scoring.classes import ClassSpace

MISSING_FILE = "missing.jsonl"
"""In the folder of a night's last round."""
SHOWN = 3
_CHUNK_CELLS = 1 << 14
_MOST_KEPT = 100_000
"""Reasons by instance; that many fail together, for few reasons."""


class Unanswered:
    """What a round's jobs say of the instances that failed.

    Attributes:
        failed: instances that the jobs call failed, with or without their keys; of others nothing came.
    """

    def __init__(self, cells: ClassSpace):
        """Knows of none yet."""
        self.failed = 0
        self._cells = cells
        self._reasons: dict[str, str] = {}
        self._general: dict[str, None] = {}

    def add(self, failures: Iterable[Failure], counted: int = 0) -> None:
        """Takes what a job wrote of some.

        Args:
            counted: by the job itself, whose files may name none.
        """
        by_key = 0
        for failure in failures:
            if failure.key is None:
                if len(self._general) < SHOWN:
                    self._general[failure.reason] = None
                continue
            if failure.key in self._reasons:
                continue
            by_key += 1
            if len(self._reasons) < _MOST_KEPT:
                self._reasons[failure.key] = failure.reason
        self.failed += max(by_key, counted)

    def described(self, missing: Iterable[np.ndarray], count: int, instances: int) -> str:
        """One line on what is missing.

        Args:
            missing: the cells, in order; the first few are looked at.
            count: of them.
            instances: that are needed in all.
        """
        first = list(itertools.islice(itertools.chain.from_iterable(array[:SHOWN] for array in missing), SHOWN))
        texts = []
        for cell, row in zip(first, self._rows(np.array(first)), strict=True):
            reason = self._reasons.get(str(cell))
            point = ", ".join(f"{name}={value!r}" for name, value in row.items())
            texts.append(f"({point}){'' if reason is None else f': {shown(reason)}'}")
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        general = f"; the jobs' errors say {', '.join(map(shown, self._general))}" if self._general else ""
        failed = min(self.failed, count)
        how = f"{failed:,} failed, and of {count - failed:,} nothing came back"
        return f"no prediction came for {count:,} of {instances:,} instances ({how}): {'; '.join(texts)}{more}{general}"

    def write(self, path: str, missing: Iterable[np.ndarray]) -> None:
        """Lists all that is missing in lines of JSON, each with the instance's `key`, its `values` and the `reason`.

        Args:
            missing: the cells, in order.
        """
        with create_atomically(path) as file:
            for array in missing:
                for start in range(0, len(array), _CHUNK_CELLS):
                    cells = array[start : start + _CHUNK_CELLS]
                    for cell, row in zip(cells, self._rows(cells), strict=True):
                        line = {"key": str(cell), "values": row, "reason": self._reasons.get(str(cell))}
                        file.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())

    def _rows(self, cells: np.ndarray) -> list[dict[str, Any]]:
        """The features' values by which a person knows the cells."""
        rows: list[dict[str, Any]] = self._cells.space.inputs(self._cells.first_points(cells).positions).to_pylist()
        return rows
