"""Predictions that somebody else computes, cell by cell: which cells are needed, what came of each, and a scorer of it.

Everything that has a value for each cell lies in memory-mapped files, so that a hundred million cells take no more
memory than a few; a chunk of them is a handful of numpy calls.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from configs.errors import ForetableError
from configs.outputs import Output
from transforms.scoring.classes import ClassSpace
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import Points

_CHUNK_CELLS = 1 << 22
_POINTS_AT_ONCE = 16 * BLOCK_ROWS
_NUMPY_TYPES: dict[str, type] = {"float": np.float32, "int": np.int64, "string": np.int32}


class NeededCells:
    """The cells that a point which is not excluded falls into.

    Attributes:
        count: of them.
    """

    def __init__(self, cells: ClassSpace, exclusion: Exclusion, folder: str):
        """Looks at every point, unless none is excluded.

        Args:
            exclusion: of the same space.
            folder: for a temporary file of one byte a cell.
        """
        self._mask = _new_file(folder, "needed", bool, (cells.cardinality,))
        if exclusion.excluded_count == 0:
            self._mask[:] = True
        else:
            for start in range(0, cells.space.cardinality, _POINTS_AT_ONCE):
                stop = min(start + _POINTS_AT_ONCE, cells.space.cardinality)
                self._mask[cells.cells_of(exclusion.included(start, stop))] = True
        self.count = int(np.count_nonzero(self._mask))

    def are(self, cells: np.ndarray) -> np.ndarray:
        """Which of these are needed cells: bool `[num_cells]`."""
        inside = (cells >= 0) & (cells < len(self._mask))
        return inside & self._mask[np.where(inside, cells, 0)]

    def chunks(self, but: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The needed cells in order, some at a time, but for those for which `but`, bool `[num_cells]`, is true."""
        for start in range(0, len(self._mask), _CHUNK_CELLS):
            chunk = self._mask[start : start + _CHUNK_CELLS]
            found = np.flatnonzero(chunk if but is None else chunk & ~but[start : start + _CHUNK_CELLS])
            if len(found):
                yield found + start


class CellPredictions:
    """What is known of the needed cells' predictions, filled in as they come.

    Attributes:
        needed: the cells.
        outputs: of the model.
        repeated: predictions that came for a cell that had one.
    """

    def __init__(self, needed: NeededCells, cells: ClassSpace, outputs: Sequence[Output], folder: str):
        """Knows nothing yet; keeps it in files of `folder`."""
        self.outputs = tuple(outputs)
        self.repeated = 0
        self.needed, self._folder, self._cardinality = needed, folder, cells.cardinality
        self._is_known = _new_file(folder, "known", bool, (cells.cardinality,))
        self._values: dict[str, np.ndarray] = {}
        self._words: dict[str, dict[bytes, int]] = {output.name: {} for output in outputs}
        self._word_arrays: dict[str, np.ndarray] = {}

    def fill(self, cells: np.ndarray, predictions: Mapping[str, np.ndarray]) -> None:
        """Takes predictions of needed cells; of a cell that has one, or is there twice, the first counts.

        Args:
            predictions: by output, `[num_cells]` or `[num_cells, width]`: float32, int64 or bytes objects.

        Raises:
            ForetableError: an output has another width than before.
        """
        _, first = np.unique(cells, return_index=True)
        first = first[~self._is_known[cells[first]]]
        self.repeated += len(cells) - len(first)
        taken = cells[first]
        for output in self.outputs:
            values = predictions[output.name][first]
            if values.dtype == object:
                values = self._coded(output, values)
            kept = self._kept(output, values.shape[1:])
            if kept.shape[1:] != values.shape[1:]:
                widths = f"{list(kept.shape[1:])} and {list(values.shape[1:])}"
                raise ForetableError(f"the model's output {output.name!r} has rows of different shapes: {widths}")
            kept[taken] = values
        self._is_known[taken] = True

    @property
    def missing_count(self) -> int:
        """Needed cells without a prediction."""
        return self.needed.count - int(np.count_nonzero(self._is_known))

    def missing(self) -> Iterator[np.ndarray]:
        """Needed cells without a prediction, in order, some at a time."""
        return self.needed.chunks(but=self._is_known)

    def of(self, cells: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions of these cells, as `transforms.scoring.serving.Scorer` gives them."""
        found = {}
        for output in self.outputs:
            values = self._values[output.name][cells]
            found[output.name] = self._words_of(output)[values] if output.type.startswith("string") else values
        return found

    def _words_of(self, output: Output) -> np.ndarray:
        numbers = self._words[output.name]
        if len(self._word_arrays.get(output.name, ())) != len(numbers):
            self._word_arrays[output.name] = np.array(list(numbers), object)
        return self._word_arrays[output.name]

    def _kept(self, output: Output, width: tuple[int, ...]) -> np.ndarray:
        if output.name not in self._values:
            kind = _NUMPY_TYPES[output.type.removesuffix("[]")]
            name = f"output-{len(self._values)}"
            self._values[output.name] = _new_file(self._folder, name, kind, (self._cardinality, *width))
        return self._values[output.name]

    def _coded(self, output: Output, values: np.ndarray) -> np.ndarray:
        """Words as numbers: a file can hold those, and outputs have few words."""
        numbers = self._words[output.name]
        flat = [numbers.setdefault(word, len(numbers)) for word in values.reshape(-1)]
        return np.array(flat, np.int32).reshape(values.shape)


class CellScorer:
    """Looks predictions up that were computed for each cell; see `transforms.scoring.serving.Scorer`."""

    def __init__(self, cells: ClassSpace, predictions: CellPredictions):
        """Takes the predictions as they are, of all needed cells."""
        self._cells, self._predictions = cells, predictions

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points, each that of its cell."""
        return self._predictions.of(self._cells.cells_of(points))


def _new_file(folder: str, name: str, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(os.path.join(folder, name), kind, "w+", shape=shape)
