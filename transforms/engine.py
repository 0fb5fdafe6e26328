"""The scoring engine: a range of points in, a block of the prediction table out.

What runs a night and what estimates one beforehand use the same engine, so that the estimate measures the real thing.
"""

import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from configs.errors import ForetableError
from configs.features import ColumnType
from configs.outputs import Output
from transforms.exclusion import Exclusion
from transforms.input_space import InputSpace, load_axes
from transforms.scoring import Scorer, ServingScorer, check_predictions
from transforms.shards import OUTPUT_TYPES

_LOADING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Engine:
    """Scores ranges of a space.

    Attributes:
        exclusion: of the same space.
        scorer: of the same space.
        outputs: of the scorer.
    """

    space: InputSpace
    exclusion: Exclusion
    scorer: Scorer
    outputs: tuple[Output, ...]

    def score_range(self, start: int, stop: int) -> pa.RecordBatch:
        """The table's rows for the points `[start, stop)`, but for the excluded ones.

        Raises:
            RefusedError: a prediction is not a finite number.
        """
        positions = self.exclusion.included(start, stop)
        batch = self.space.columns(positions, dictionary=True)
        if len(positions) == 0:
            arrays = [pa.array([], OUTPUT_TYPES[output.type]) for output in self.outputs for _ in output.columns]
        else:
            predictions = self.scorer.score(positions)
            check_predictions(predictions, self.outputs, self.space, positions)
            arrays = prediction_arrays(predictions, self.outputs)
        names = [name for output in self.outputs for name in output.columns]
        return pa.RecordBatch.from_arrays([*batch.columns, *arrays], names=[*batch.schema.names, *names])

    def score_ranges(self, ranges: Iterable[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        """`score_range` of each, one at a time."""
        for start, stop in ranges:
            yield self.score_range(start, stop)


def make_engine(
    space: InputSpace, model_dir: str, features: Mapping[str, ColumnType], outputs: Sequence[Output]
) -> Engine:
    """The engine of a space and an exported model.

    Args:
        model_dir: a local folder.
        features: raw features of the model, in any order.

    Raises:
        ForetableError: the model's serving signature is not one for these features and outputs.
    """
    scorer = ServingScorer(model_dir, features, outputs, space)
    return Engine(space, Exclusion(space), scorer, tuple(outputs))


@dataclasses.dataclass(frozen=True)
class EngineFiles:
    """Where an engine is loaded from, and what it must turn out to be.

    Attributes:
        axes_dir: of `save_axes`.
        column_names: of the space.
        exclude: of the space.
        space_hash: digest of the space.
        model_dir: a local folder.
        model_version: of the model there; another version is another engine.
        features: raw features of the model, with their types.
        outputs: of the model.
    """

    axes_dir: str
    column_names: tuple[str, ...]
    exclude: str | None
    space_hash: str
    model_dir: str
    model_version: str
    features: tuple[tuple[str, ColumnType], ...]
    outputs: tuple[Output, ...]


def load_engine(files: EngineFiles) -> Engine:
    """Loads an engine, once per process however many threads ask for it.

    Raises:
        ForetableError: the axes are not those that were planned, or the model is not one for them.
    """
    with _LOADING:
        return _load_engine(files)


@functools.lru_cache(maxsize=1)
def _load_engine(files: EngineFiles) -> Engine:
    space = InputSpace(load_axes(files.axes_dir), files.column_names, files.exclude)
    if space.digest() != files.space_hash:
        raise ForetableError(f"{files.axes_dir}: not the axes that plan.json names; run foretable plan again")
    return make_engine(space, files.model_dir, dict(files.features), files.outputs)


def prediction_arrays(predictions: Mapping[str, np.ndarray], outputs: Sequence[Output]) -> list[pa.Array]:
    """Predictions as columns of the prediction table, each `[num_rows]`.

    Args:
        predictions: by output, `[num_rows]` or `[num_rows, num_columns]`.

    Raises:
        ForetableError: an output has another number of columns than its declaration.
    """
    arrays = []
    for output in outputs:
        values = predictions[output.name]
        matrix = values.reshape(len(values), -1)
        if values.ndim > 2 or matrix.shape[1] != len(output.columns):
            raise ForetableError(
                f"the model's output {output.name!r} has shape {list(values.shape)};"
                f" expected {len(output.columns)} value(s) a row, for {', '.join(output.columns)}"
            )
        for index in range(matrix.shape[1]):
            arrays.append(_prediction_array(np.ascontiguousarray(matrix[:, index]), output))
    return arrays


def _prediction_array(values: np.ndarray, output: Output) -> pa.Array:
    if output.type != "string":
        return pa.array(values, OUTPUT_TYPES[output.type])
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ForetableError(f"the model's output {output.name!r} is not UTF-8 text") from error
