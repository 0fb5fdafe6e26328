"""Which points of an input space are excluded: a SQL condition, evaluated on columns by DuckDB.

Only the axes that the condition names are enumerated: for most spaces that is a small table, looked up for each point.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import JobError, RefusedError
from transforms.space.blocks import BLOCK_ROWS, block_count
from transforms.space.input_space import InputSpace, Points
from transforms.sql import evaluate_expression, referenced_columns

MAX_TABULATED = 1 << 24
_CHUNK_ROWS = 1 << 20
_SAMPLED_BLOCKS = 64


class Exclusion:
    """The points of a space for which its `exclude` condition is true. NULL is not true: such a point stays in."""

    def __init__(self, space: InputSpace):
        """Finds the axes that the condition names.

        Raises:
            JobError: the condition is not valid, or names no column.
        """
        self._space = space
        if space.exclude is None:
            return
        try:
            names = referenced_columns(space.exclude, space.column_names)
        except JobError as error:
            raise JobError(f"input_space.exclude: {error}") from error
        if not names:
            raise JobError(
                f"input_space.exclude: {space.exclude!r}: names no column; expected a condition over the axes"
            )
        self._axes = [
            index for index, axis in enumerate(space.axes) if any(name in names for name in axis.table.column_names)
        ]
        self._subspace = InputSpace(tuple(space.axes[index] for index in self._axes))

    @functools.cached_property
    def excluded_count(self) -> int:
        """Excluded points of the whole space.

        Raises:
            JobError: the condition does not evaluate to true or false.
            RefusedError: it excludes every point.
        """
        if self._space.exclude is None:
            return 0
        cardinality = self._subspace.cardinality
        masks = self._masks() if self._tabulated is None else [self._tabulated]
        named = sum(int(mask.sum()) for mask in masks)
        if named == cardinality:
            raise RefusedError(f"input_space.exclude: {self._space.exclude!r} excludes every point of the space")
        return named * (self._space.cardinality // cardinality)

    def mask(self, positions: np.ndarray) -> np.ndarray:
        """Whether the points at these positions are excluded: bool `[num_points]`."""
        return self._mask(self._space.points(positions))

    def included(self, start: int, stop: int) -> Points:
        """The points `[start, stop)` that are not excluded, in order."""
        points = self._space.points_between(start, stop)
        if self._space.exclude is None:
            return points
        excluded = self._mask(points)
        return points.filter(~excluded) if excluded.any() else points

    def included_count(self, start: int, stop: int) -> int:
        """Points in `[start, stop)` that are not excluded."""
        if self._space.exclude is None:
            return stop - start
        return sum(
            len(self.included(first, min(first + _CHUNK_ROWS, stop))) for first in range(start, stop, _CHUNK_ROWS)
        )

    @functools.cached_property
    def whole_share(self) -> float:
        """Share of the table's rows that lie in full blocks without excluded points.

        Exact where nothing is excluded or blocks are few; else of some blocks drawn at random, always the same ones.
        """
        full, cardinality = self._space.cardinality // BLOCK_ROWS, self._space.cardinality
        if self._space.exclude is None:
            return full * BLOCK_ROWS / cardinality
        blocks: Sequence[int] = range(block_count(cardinality))
        if len(blocks) > _SAMPLED_BLOCKS:
            blocks = np.random.default_rng(0).choice(full, _SAMPLED_BLOCKS, replace=False).tolist()
        starts = [block * BLOCK_ROWS for block in blocks]
        rows = [self.included_count(start, min(start + BLOCK_ROWS, cardinality)) for start in starts]
        return rows.count(BLOCK_ROWS) * BLOCK_ROWS / max(sum(rows), 1)

    def _mask(self, points: Points) -> np.ndarray:
        if self._space.exclude is None:
            return np.zeros(len(points), bool)
        named = np.zeros(len(points), np.int64)
        for axis, stride in zip(self._axes, self._subspace.strides, strict=True):
            named += points.indices[axis] * np.int64(stride)
        return self._evaluate(named) if self._tabulated is None else self._tabulated[named]

    @functools.cached_property
    def _tabulated(self) -> np.ndarray | None:
        return np.concatenate(list(self._masks())) if self._subspace.cardinality <= MAX_TABULATED else None

    def _masks(self) -> Iterator[np.ndarray]:
        cardinality = self._subspace.cardinality
        for start in range(0, cardinality, _CHUNK_ROWS):
            yield self._evaluate(np.arange(start, min(start + _CHUNK_ROWS, cardinality)))

    def _evaluate(self, positions: np.ndarray) -> np.ndarray:
        condition = self._space.exclude
        assert condition is not None
        try:
            values = evaluate_expression(condition, self._subspace.columns(positions))
        except JobError as error:
            raise JobError(f"input_space.exclude: {error}") from error
        if not pa.types.is_boolean(values.type):
            raise JobError(
                f"input_space.exclude: {condition!r}: expected true or false for each point, got {values.type}"
            )
        return pc.fill_null(values, False).to_numpy(zero_copy_only=False)
