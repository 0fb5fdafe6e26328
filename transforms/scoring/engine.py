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
from configs.outputs import ARRAY_TYPES, Output
from transforms.scoring.classes import AxisClasses
from transforms.scoring.foreign_models import ForeignCall, ForeignScorer
from transforms.scoring.scorer_choice import TransformedFeature, choose_scorer
from transforms.scoring.serving import Scorer, check_predictions
from transforms.scoring.shards import OUTPUT_TYPES
from transforms.scoring.threads import map_ahead
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace, load_axes

_LOADING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Engine:
    """Scores ranges of a space.

    Attributes:
        exclusion: of the same space.
        scorer: of the same space.
        outputs: of the scorer.
        transformed: what the network takes, as far as that is known.
        classes: of each axis's rows, as far as they are known.
        factor: of `ScorerChoice`.
    """

    space: InputSpace
    exclusion: Exclusion
    scorer: Scorer
    outputs: tuple[Output, ...]
    transformed: tuple[TransformedFeature, ...] = ()
    classes: tuple[AxisClasses, ...] = ()
    factor: float = 1.0

    def score_range(self, start: int, stop: int) -> pa.RecordBatch:
        """The table's rows for the points `[start, stop)`, but for the excluded ones.

        Raises:
            RefusedError: a prediction is not a finite number.
        """
        points = self.exclusion.included(start, stop)
        batch = self.space.columns_of(points, dictionary=True)
        if len(points) == 0:
            arrays = [pa.array([], OUTPUT_TYPES[output.type]) for output in self.outputs for _ in output.columns]
        else:
            predictions = self.scorer.score(points)
            check_predictions(predictions, self.outputs, self.space, points.positions)
            arrays = prediction_arrays(predictions, self.outputs)
        names = [name for output in self.outputs for name in output.columns]
        return pa.RecordBatch.from_arrays([*batch.columns, *arrays], names=[*batch.schema.names, *names])

    def score_ranges(self, ranges: Iterable[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        """`score_range` of each, in order, a few ahead."""
        yield from map_ahead(lambda bounds: self.score_range(*bounds), ranges)


def make_engine(
    space: InputSpace,
    model_dir: str,
    features: Mapping[str, ColumnType],
    outputs: Sequence[Output],
    factoring: bool = True,
    classes: bool = True,
    foreign: ForeignCall | None = None,
) -> Engine:
    """The engine of a space and an exported model.

    Args:
        model_dir: a local folder.
        features: raw features of the model, in any order.
        factoring: of `choose_scorer`, as is `classes`: the predictions are the same with and without.
        foreign: how to call the model, if somebody else made it.

    Raises:
        ForetableError: the model's serving signature is not one for these features and outputs.
    """
    if foreign is not None:
        scorer = ForeignScorer(model_dir, foreign, features, outputs, space)
        return Engine(space, Exclusion(space), scorer, tuple(outputs))
    exclusion = Exclusion(space)
    choice = choose_scorer(space, model_dir, features, outputs, factoring, classes, exclusion)
    return Engine(space, exclusion, choice.scorer, tuple(outputs), choice.transformed, choice.classes, choice.factor)


@dataclasses.dataclass(frozen=True)
class EngineFiles:
    """Where an engine is loaded from, and what it must turn out to be.

    Attributes:
        axes_dir: of `save_axes`.
        column_names: of the space.
        exclude: of the space.
        space_hash: digest of the space.
        model_dir: a folder that every worker can read.
        model_version: of the model there; another version is another engine.
        features: raw features of the model, with their types.
        outputs: of the model.
        foreign: how to call the model, if somebody else made it.
    """

    axes_dir: str
    column_names: tuple[str, ...]
    exclude: str | None
    space_hash: str
    model_dir: str
    model_version: str
    features: tuple[tuple[str, ColumnType], ...]
    outputs: tuple[Output, ...]
    foreign: ForeignCall | None = None


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
    return make_engine(space, files.model_dir, dict(files.features), files.outputs, foreign=files.foreign)


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
        if output.type in ARRAY_TYPES.values():
            arrays.append(_array_column(values, output))
            continue
        matrix = values.reshape(len(values), -1)
        if values.ndim > 2 or matrix.shape[1] != len(output.columns):
            raise ForetableError(
                f"the model's output {output.name!r} has shape {list(values.shape)};"
                f" expected {len(output.columns)} value(s) a row, for {', '.join(output.columns)}"
            )
        for index in range(matrix.shape[1]):
            arrays.append(_prediction_array(np.ascontiguousarray(matrix[:, index]), output))
    return arrays


def _array_column(values: np.ndarray, output: Output) -> pa.Array:
    arrow_type = OUTPUT_TYPES[output.type]
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, _prediction_array(values.ravel(), output), arrow_type)


def _prediction_array(values: np.ndarray, output: Output) -> pa.Array:
    """Values of the output's type, `[num_values]`; of an array's elements where it is one."""
    if not output.type.startswith("string"):
        arrow_type = OUTPUT_TYPES[output.type]
        return pa.array(values, arrow_type.value_type if pa.types.is_list(arrow_type) else arrow_type)
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ForetableError(f"the model's output {output.name!r} is not UTF-8 text") from error
