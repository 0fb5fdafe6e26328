"""Scores points from tables of transformed features: what a block would compute again and again is gathered instead.

The tables are gathered and the network runs inside one graph, at the batch that the serving signature would get.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from configs.features import ColumnType
from configs.outputs import Output
from transforms.graphs.dependencies import Dependency
from transforms.scoring.axis_tables import AxisTable, tabulate, tabulated_axes
from transforms.scoring.serving import PREDICT_TRANSFORMED, TRANSFORM, Scorer, raw_columns
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace, Points


class FactoredScorer:
    """Gathers the tabulated features of each point, transforms the rest, and calls `predict_transformed`.

    Safe to call from several threads.

    Attributes:
        tables: the features that are tabulated.
        untabulated: the features that are not, which are computed for every block.
    """

    def __init__(
        self,
        model: Any,
        dependencies: Mapping[str, Dependency],
        features: Mapping[str, ColumnType],
        outputs: Sequence[Output],
        space: InputSpace,
        serving: Scorer,
        batch_rows: int = BLOCK_ROWS,
    ):
        """Tabulates what can be.

        Args:
            model: of `load_model`, with the signatures `transform` and `predict_transformed`.
            dependencies: of the transformed features that `predict_transformed` takes.
            serving: scores the batches of another size than `batch_rows`, if a table does not hold for them.
        """
        transform = model.signatures[TRANSFORM]
        axes_by_output = tabulated_axes(transform, dependencies, space)
        self.tables = tabulate(transform, axes_by_output, space, features)
        self.untabulated = tuple(name for name in dependencies if name not in axes_by_output)
        self._outputs = tuple(outputs)
        self._serving = serving
        # In a batch that the processor's vectors do not divide, an inexact operation rounds the last rows otherwise.
        self._only_rows = None if all(dependencies[name].exact for name in self.tables) else batch_rows
        self._predict = model.signatures[PREDICT_TRANSFORMED]
        self._rest = _Untabulated(transform, self.untabulated, dependencies, features, space)

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points: see `transforms.scoring.serving.Scorer`."""
        import tensorflow as tf

        if self._only_rows not in (None, len(points)):
            return self._serving.score(points)
        # numpy gathers numbers ten times as fast as TensorFlow does; strings it would have to make objects of.
        transformed = {name: tf.constant(gather(table, points)) for name, table in self.tables.items()}
        predictions = self._predict(**transformed, **self._rest.transform(points))
        return {output.name: predictions[output.name].numpy() for output in self._outputs}


def transformed_features(model: Any) -> tuple[str, ...] | None:
    """The transformed features that the network takes, or None if the model does not say how it transforms."""
    if not {TRANSFORM, PREDICT_TRANSFORMED} <= set(model.signatures):
        return None
    taken = model.signatures[PREDICT_TRANSFORMED].structured_input_signature[1]
    given = model.signatures[TRANSFORM].structured_outputs
    same = all(name in given and given[name].dtype == spec.dtype for name, spec in taken.items())
    return tuple(sorted(taken)) if same else None


def gather(table: AxisTable, points: Points) -> np.ndarray:
    """The table's row for each point."""
    rows = np.zeros(len(points), np.int32)
    for axis, size in zip(table.axes, table.shape, strict=True):
        rows = points.indices[axis] if axis == table.axes[0] else rows * np.int32(size) + points.indices[axis]
    return table.values.take(rows, axis=0)


class _Untabulated:
    """Computes the features that are not tabulated, as the serving signature does: for every row of the batch."""

    def __init__(
        self,
        transform: Any,
        names: Sequence[str],
        dependencies: Mapping[str, Dependency],
        features: Mapping[str, ColumnType],
        space: InputSpace,
    ):
        self._transform = transform
        self._names = names
        self._needed = {feature for name in names for feature in dependencies[name].features}
        self._columns = raw_columns(space, features) if names else {}

    def transform(self, points: Points) -> dict[str, Any]:
        """These features of the points, as tensors."""
        import tensorflow as tf

        if not self._names:
            return {}
        indices = [tf.constant(index) for index in points.indices]
        batch = {  # of a feature that nothing here depends on, any value will do
            name: tf.gather(values, indices[axis] if name in self._needed else tf.zeros_like(indices[axis]))
            for name, (axis, values) in self._columns.items()
        }
        found = self._transform(**batch)
        return {name: found[name] for name in self._names}
