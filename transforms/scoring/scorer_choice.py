"""Chooses how to score a space with a model: as the serving signature does, from tables, or by classes.

The faster ways are taken where the model's graph shows that they say the same, and where they did say the same, bit for
bit, in a trial on this machine: that a graph computes the same function does not settle how a compiler rounds it.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from configs.features import ColumnType
from configs.outputs import Output
from transforms.graphs.dependencies import output_dependencies
from transforms.scoring.axis_tables import STRING_BYTES, axes_of, tabulated_axes
from transforms.scoring.classes import MIN_FACTOR, AxisClasses, ClassScorer, find_classes
from transforms.scoring.factoring import FactoredScorer, transformed_features
from transforms.scoring.serving import PREDICT_TRANSFORMED, TRANSFORM, Scorer, ServingScorer, load_model
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace, Points

_LOGGER = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class TransformedFeature:
    """A transformed feature that the network takes, and where it comes from.

    Attributes:
        features: raw features that it depends on.
        axes: names of the axes that give values to those.
        tabulated: computed once for each combination of those axes' rows, not for each point.
    """

    name: str
    features: tuple[str, ...]
    axes: tuple[str, ...]
    tabulated: bool


@dataclasses.dataclass(frozen=True)
class ScorerChoice:
    """How a space is scored.

    Attributes:
        transformed: what the network takes; empty where the model is scored as it is served.
        classes: of each axis's rows; empty where every point is scored.
        factor: rows of the table for each that is scored, at least; 1 where every one is.
    """

    scorer: Scorer
    transformed: tuple[TransformedFeature, ...] = ()
    classes: tuple[AxisClasses, ...] = ()
    factor: float = 1.0


def choose_scorer(
    space: InputSpace,
    model_dir: str,
    features: Mapping[str, ColumnType],
    outputs: Sequence[Output],
    factoring: bool = True,
    classes: bool = True,
    exclusion: Exclusion | None = None,
) -> ScorerChoice:
    """The fastest scorer that says what the serving signature says; logs why, where that is not the fastest there is.

    Args:
        model_dir: a local folder.
        factoring: whether transformed features may be tabulated; without, rows have no classes either.
        classes: whether rows that the transform graph cannot tell apart may be scored once.
        exclusion: of the space, if it is made already.

    Raises:
        ForetableError: the model's serving signature is not one for these features and outputs.
    """
    serving = ServingScorer(model_dir, features, outputs, space)
    if not factoring:
        return ScorerChoice(serving)
    model = load_model(model_dir)
    names = transformed_features(model)
    if names is None:
        _LOGGER.info("%s has no signatures %s and %s: scored as served", model_dir, TRANSFORM, PREDICT_TRANSFORMED)
        return ScorerChoice(serving)
    found = output_dependencies(model.signatures[TRANSFORM])
    dependencies = {name: found[name] for name in names}
    axes = {name: axes_of(dependency, space) for name, dependency in dependencies.items()}
    tabulated = tabulated_axes(model.signatures[TRANSFORM], dependencies, space)
    transformed = tuple(
        TransformedFeature(
            name, dependency.features, tuple(space.axes[axis].name for axis in axes[name]), name in tabulated
        )
        for name, dependency in dependencies.items()
    )
    if not tabulated:
        return ScorerChoice(serving, transformed)
    factored = FactoredScorer(model, dependencies, features, outputs, space, serving)
    probe = _probe(space)
    if not all(_agree(factored.score(points), serving.score(points)) for points in (probe, _odd(probe))):
        _LOGGER.warning("%s: tables of transformed features change predictions: scored as served", model_dir)
        return ScorerChoice(serving)
    if not classes:
        return ScorerChoice(factored, transformed)
    apart = {axis for name in factored.untabulated for axis in axes[name]}
    axis_classes = find_classes(space.shape, factored.tables.values(), apart)
    scorer = ClassScorer(factored, space, axis_classes, kept_rows=_kept_rows(outputs))
    if space.cardinality < BLOCK_ROWS or math.prod(scorer.factors) < MIN_FACTOR:
        return ScorerChoice(factored, transformed, axis_classes)
    whole_share = (exclusion or Exclusion(space)).whole_share
    # All combinations are scored in any case, and so are the blocks that classes are not for.
    factor = 1 / (1 - whole_share + 1 / math.prod(scorer.factors))
    if factor < MIN_FACTOR:
        _LOGGER.info(
            "%.0f %% of rows are in full blocks, too few for classes: every point is scored", 100 * whole_share
        )
        return ScorerChoice(factored, transformed, axis_classes)
    if not _is_by_row(model, factored, probe):
        _LOGGER.warning("%s: a row's predictions depend on the rows beside it: every point is scored", model_dir)
        return ScorerChoice(factored, transformed, axis_classes)
    return ScorerChoice(scorer, transformed, axis_classes, factor)


def _is_by_row(model: Any, scorer: Scorer, probe: Points) -> bool:
    """Whether a row of a full batch has the same predictions beside any others: by the graph, and in another order."""
    if not all(found.by_row for found in output_dependencies(model.signatures[PREDICT_TRANSFORMED]).values()):
        return False
    shuffled = np.random.default_rng(0).permutation(len(probe))
    expected = {name: values[shuffled] for name, values in scorer.score(probe).items()}
    return _agree(scorer.score(_take(probe, shuffled)), expected)


def _probe(space: InputSpace) -> Points:
    """A batch of a block's size from all over the space, or all of it."""
    if space.cardinality <= BLOCK_ROWS:
        return space.points_between(0, space.cardinality)
    random = np.random.default_rng(0)
    return space.points(random.integers(0, space.cardinality, BLOCK_ROWS))


def _odd(points: Points) -> Points:
    """A part of a batch that no vector of a processor divides."""
    return _take(points, np.arange(max(len(points) // 4 * 2 - 1, 1)))


def _take(points: Points, rows: np.ndarray) -> Points:
    return Points(points.positions[rows], tuple(index[rows] for index in points.indices))


def _agree(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether predictions are the same, bit for bit."""
    return all(_bits(values) == _bits(other[name]) for name, values in one.items())


def _bits(values: np.ndarray) -> Any:
    return values.tolist() if values.dtype == object else (values.shape, values.tobytes())


def _kept_rows(outputs: Sequence[Output]) -> int:
    """Rows of predictions that take no more than `_KEPT_BYTES`."""
    row_bytes = sum((STRING_BYTES if output.type == "string" else 8) * len(output.columns) for output in outputs)
    return _KEPT_BYTES // row_bytes
