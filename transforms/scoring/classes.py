"""Classes of axis rows that the transform graph cannot tell apart, each scored once and expanded for every point.

The classes span a space of their own, smaller than the input space. It is scored in batches of exactly a block's
rows, and their predictions are kept while the points of the input space pass by.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from transforms.scoring.axis_tables import AxisTable
from transforms.scoring.serving import Scorer
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace, Points

_Batch = concurrent.futures.Future[Mapping[str, np.ndarray]]

MAX_KEPT_ROWS = 1 << 22
MIN_FACTOR = 1.25  # below, expanding costs more than it saves


@dataclasses.dataclass(frozen=True)
class AxisClasses:
    """The classes of an axis's rows.

    Attributes:
        of_rows: the class of each row, int32 `[num_rows]`; numbered by first appearance.
        first_rows: the first row of each class, int32 `[num_classes]`.
    """

    of_rows: np.ndarray
    first_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.first_rows)

    @property
    def factor(self) -> float:
        """Rows of the axis for each class."""
        return len(self.of_rows) / len(self)


def find_classes(
    shape: Sequence[int], tables: Iterable[AxisTable], told_apart: Iterable[int] = ()
) -> tuple[AxisClasses, ...]:
    """The classes of each axis's rows: those for which every table holds the same bytes.

    Args:
        shape: rows of each axis.
        told_apart: axes whose rows are all different, because something that is not tabulated depends on them.
    """
    tables, apart = tuple(tables), set(told_apart)
    classes = []
    for axis, rows in enumerate(shape):
        if axis in apart:
            every = np.arange(rows, dtype=np.int32)
            classes.append(AxisClasses(every, every))
        else:
            keys = [np.zeros((rows, 1), np.uint8), *(_keys(table, axis) for table in tables if axis in table.axes)]
            classes.append(_number(np.concatenate(keys, axis=1)))
    return tuple(classes)


def _keys(table: AxisTable, axis: int) -> np.ndarray:
    """For each row of the axis, the bytes that the table holds for it: `[num_rows, num_bytes]`."""
    values = table.values
    if values.dtype == object:
        numbers: dict[bytes, int] = {}
        flat = [numbers.setdefault(value, len(numbers)) for value in values.reshape(-1)]
        values = np.array(flat, np.int32).reshape(values.shape)
    at = table.axes.index(axis)
    by_row = np.moveaxis(values.reshape(*table.shape, -1), at, 0)
    return np.ascontiguousarray(by_row).reshape(table.shape[at], -1).view(np.uint8)


def _number(keys: np.ndarray) -> AxisClasses:
    """Classes of rows with equal bytes, `[num_rows, num_bytes]`."""
    whole = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1]))).reshape(-1)
    _, first, sorted_classes = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(first), np.int32)
    number[order] = np.arange(len(first), dtype=np.int32)
    return AxisClasses(number[sorted_classes], first[order].astype(np.int32))


def collapsed_axes(classes: Sequence[AxisClasses], kept_rows: int = MAX_KEPT_ROWS) -> int:
    """The first axis to collapse: from it on, all combinations of classes can be kept; those before stay as is."""
    for axis in range(len(classes)):
        if math.prod(len(found) for found in classes[axis:]) <= kept_rows:
            return axis
    return len(classes)


@dataclasses.dataclass(frozen=True)
class ClassSpace:
    """The combinations of classes, called cells: a space of its own, addressed by position as the input space is.

    Attributes:
        classes: of each axis's rows; None where each row is a class.
    """

    space: InputSpace
    classes: tuple[AxisClasses | None, ...]

    @classmethod
    def of(cls, space: InputSpace, classes: Sequence[AxisClasses]) -> "ClassSpace":
        """The cells of all axes' classes; each point is a cell where no classes are known."""
        return cls(space, tuple(classes) or (None,) * len(space.axes))

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Classes of each axis."""
        rows = self.space.shape
        return tuple(rows[axis] if found is None else len(found) for axis, found in enumerate(self.classes))

    @property
    def cardinality(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    def cells_of(self, points: Points) -> np.ndarray:
        """The cell that each point falls into, int64 `[num_points]`."""
        cells = np.zeros(len(points), np.int64)
        for index, found, size in zip(points.indices, self.classes, self.shape, strict=True):
            cells *= size
            cells += index if found is None else found.of_rows[index]
        return cells

    def first_points(self, cells: np.ndarray) -> Points:
        """The first point of each cell, which may be an excluded one.

        Args:
            cells: int64 `[num_cells]`, each in `[0, cardinality)`.
        """
        indices = tuple(
            (index if found is None else found.first_rows[index]).astype(np.int32)
            for index, found in zip(np.unravel_index(cells, self.shape), self.classes, strict=True)
        )
        return Points(np.ravel_multi_index(indices, self.space.shape), indices)


class ClassScorer:
    """Scores each combination of classes once, and looks up what a point's is.

    A batch of another size than a block's is left to the scorer behind: the last block, and one with excluded points.

    Attributes:
        scorer: what scores the combinations.
    """

    def __init__(
        self,
        scorer: Scorer,
        space: InputSpace,
        classes: Sequence[AxisClasses],
        batch_rows: int = BLOCK_ROWS,
        kept_rows: int = MAX_KEPT_ROWS,
    ):
        """Collapses the innermost axes, as many as can be kept.

        Args:
            scorer: of the space; a row's predictions must not depend on the other rows of a full batch.
            classes: of each axis.
        """
        first = collapsed_axes(classes, kept_rows)
        self.scorer = scorer
        self._batch_rows = batch_rows
        self._cells = ClassSpace(space, tuple(found if axis >= first else None for axis, found in enumerate(classes)))
        self._kept: collections.OrderedDict[int, _Batch] = collections.OrderedDict()
        self._max_kept = 2 * max(kept_rows // batch_rows, 1)
        self._lock = threading.Lock()

    @property
    def factors(self) -> tuple[float, ...]:
        """For each axis, the rows for each that is scored."""
        return tuple(1.0 if found is None else found.factor for found in self._cells.classes)

    @property
    def batches(self) -> int:
        """Batches to score, if each is scored once."""
        return -(-self._cells.cardinality // self._batch_rows)

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points: see `Scorer`."""
        if len(points) != self._batch_rows:
            return self.scorer.score(points)
        cells = self._cells.cells_of(points)
        batches = cells // self._batch_rows
        first, last = int(batches.min()), int(batches.max())
        if first == last:
            return {name: values[cells - first * self._batch_rows] for name, values in self._batch(first).items()}
        result: dict[str, np.ndarray] = {}
        for batch in np.unique(batches).tolist():
            rows = batches == batch
            within = cells[rows] - batch * self._batch_rows
            for name, values in self._batch(batch).items():
                if name not in result:
                    result[name] = np.empty((len(points), *values.shape[1:]), values.dtype)
                result[name][rows] = values[within]
        return result

    def _batch(self, batch: int) -> Mapping[str, np.ndarray]:
        """Predictions for the combinations of one batch, scored by the first thread that asks.

        A failure is that of all who wait for it. It is not kept: whoever asks next tries again.
        """
        with self._lock:
            found = self._kept.get(batch)
            is_first = found is None
            if found is None:
                found = self._kept[batch] = _Batch()
                while len(self._kept) > self._max_kept:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(batch)
        if is_first:
            try:
                found.set_result(self._score_batch(batch))
            except BaseException as error:
                with self._lock:
                    if self._kept.get(batch) is found:
                        del self._kept[batch]
                found.set_exception(error)
        return found.result()

    def _score_batch(self, batch: int) -> Mapping[str, np.ndarray]:
        start = batch * self._batch_rows  # the last batch is filled up from the beginning
        cells = np.arange(start, start + self._batch_rows) % self._cells.cardinality
        return self.scorer.score(self._cells.first_points(cells))
