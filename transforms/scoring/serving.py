"""Scores points of the input space with an exported model: columns in, columns out, never a row.

`Scorer` is the seam of the engine: whatever computes a block's predictions has this one method, and has to say, bit for
bit, what `ServingScorer` says: the serving signature, called on the full columns of the block's rows.
"""

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from configs.errors import ForetableError, RefusedError
from configs.features import ColumnType
from configs.outputs import Output
from transforms.columns import graph_column, graph_inputs
from transforms.local_copies import local_folder
from transforms.scoring.threads import settle_tensorflow_threads
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace, Points

SERVING, TRANSFORM, PREDICT_TRANSFORMED = "serving_default", "transform", "predict_transformed"
_NUMPY_KINDS: dict[str, str] = {"float": "f", "int": "i", "string": "O"}
_LOADING = threading.Lock()


class Scorer(Protocol):
    """Computes predictions for points of a space."""

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points, as one batch.

        Returns:
            By the output's name, `[num_rows]` or `[num_rows, num_classes]`: float32, int64, or bytes objects.
        """


def load_model(model_dir: str) -> Any:
    """Loads a SavedModel, once per process for as long as its files do not change.

    TensorFlow is imported here, not above: what only reads a plan or a manifest does without it.

    Args:
        model_dir: a folder that every worker can read; one that is not local is copied to the worker first.

    Raises:
        ForetableError: there is no SavedModel, or it cannot be loaded.
    """
    folder = local_folder(model_dir)
    try:
        stat = os.stat(os.path.join(folder, "saved_model.pb"))
    except OSError as error:
        raise ForetableError(f"{model_dir}: no SavedModel here; run foretable train") from error
    with _LOADING:  # several Beam threads ask at once; only one may load
        return _load(os.path.abspath(folder), (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=2)  # a candidate and its baseline
def _load(model_dir: str, stamp: tuple[int, ...]) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    settle_tensorflow_threads()
    import tensorflow as tf

    try:
        return tf.saved_model.load(model_dir)
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ForetableError(f"{model_dir}: cannot load the SavedModel: {reason}") from error


def predict(
    model: Any, batch: pa.RecordBatch | pa.Table, features: Mapping[str, ColumnType], signature: str = SERVING
) -> dict[str, np.ndarray]:
    """Calls a signature that takes raw features on these rows, as one batch.

    Args:
        model: of `load_model`.
        batch: raw features, null where missing; further columns are ignored.

    Returns:
        By output, what the signature gives: `[num_rows]` or `[num_rows, num_classes]`; strings as bytes objects.
    """
    import tensorflow as tf

    inputs = {name: tf.constant(values) for name, values in graph_inputs(batch, features).items()}
    return {name: values.numpy() for name, values in _signature(model, signature)(**inputs).items()}


class ServingScorer:
    """Calls the serving signature on a block's full columns, gathered from the axes' rows.

    Safe to call from several threads.
    """

    def __init__(
        self, model_dir: str, features: Mapping[str, ColumnType], outputs: Sequence[Output], space: InputSpace
    ):
        """Loads the model and puts the axes' values where TensorFlow gathers them from.

        Raises:
            ForetableError: the model's signature is not one for these features and outputs.
        """
        self._serving = _signature(load_model(model_dir), SERVING)
        check_signature(model_dir, self._serving, features, outputs)
        self._outputs = tuple(outputs)
        self._values = raw_columns(space, features)

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points: see `Scorer`."""
        import tensorflow as tf

        indices = [tf.constant(index) for index in points.indices]
        inputs = {name: tf.gather(values, indices[axis]) for name, (axis, values) in self._values.items()}
        predictions = self._serving(**inputs)
        return {output.name: predictions[output.name].numpy() for output in self._outputs}


def raw_columns(space: InputSpace, features: Mapping[str, ColumnType]) -> dict[str, tuple[int, Any]]:
    """Each feature's axis and its values there, a tensor `[num_rows]`, as they travel into the graph.

    Strings stay in TensorFlow: as numpy objects, a block of them takes longer to hand over than to score.
    """
    import tensorflow as tf

    return {
        name: (index, tf.constant(graph_column(axis.inputs[name], features[name]).to_numpy(zero_copy_only=False)))
        for index, axis in enumerate(space.axes)
        for name in axis.inputs.column_names
        if name in features
    }


def check_signature(
    model_dir: str, signature: Any, features: Mapping[str, ColumnType], outputs: Sequence[Output]
) -> None:
    """Compares a signature's inputs and outputs with what is expected of it.

    Raises:
        ForetableError: an input or output is missing or of another type.
    """
    taken = signature.structured_input_signature[1]
    given = signature.structured_outputs
    if set(taken) != set(features):
        raise ForetableError(
            f"{model_dir}: the model takes {', '.join(sorted(taken))};"
            f" the job's features are {', '.join(sorted(features))}"
        )
    expected: dict[str, tuple[Any, str]] = {name: (taken, kind) for name, kind in features.items()}
    expected |= {output.name: (given, output.type) for output in outputs}
    for name, (specs, kind) in expected.items():
        if name not in specs:
            raise ForetableError(f"{model_dir}: the model has no output {name!r}, only {', '.join(sorted(given))}")
        found = np.dtype(specs[name].dtype.as_numpy_dtype)
        if found.kind != _NUMPY_KINDS[kind]:
            raise ForetableError(f"{model_dir}: {name} is {found.name} in the model, expected {kind}")


def check_predictions(
    predictions: Mapping[str, np.ndarray], outputs: Sequence[Output], space: InputSpace, positions: np.ndarray
) -> None:
    """Checks that every float prediction is a finite number.

    Raises:
        RefusedError: one is not; names the output and the key of the first.
    """
    for output in outputs:
        if not output.type.startswith("float"):
            continue
        finite = np.isfinite(predictions[output.name])
        if finite.all():
            continue
        rows = finite.reshape(len(positions), -1).all(axis=1)
        first = int(np.argmin(rows))
        row = np.atleast_1d(predictions[output.name][first])
        value = row[~np.isfinite(row)][0]
        raise RefusedError(
            f"the model's output {output.name!r} is {value} for {describe_point(space, int(positions[first]))}"
            f" ({len(rows) - int(rows.sum())} such rows in this block); nothing was published"
        )


def check_features(
    model: Any,
    features: Mapping[str, ColumnType],
    space: InputSpace,
    excluded: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Checks that the transform graph makes a finite number of every axis row.

    A network can turn a NaN feature into a plausible prediction, so no look at predictions would find it. Each axis is
    varied alone, with the first row of the others; a model without a `transform` signature is not checked.

    Args:
        excluded: whether the points at some positions are excluded.

    Raises:
        RefusedError: a transformed feature is not finite; names it and the point.
    """
    if TRANSFORM not in model.signatures:
        return
    for axis, stride in zip(space.axes, space.strides, strict=True):
        for start in range(0, axis.table.num_rows, BLOCK_ROWS):
            positions = np.arange(start, min(start + BLOCK_ROWS, axis.table.num_rows)) * stride
            positions = positions[~excluded(positions)]
            if len(positions) == 0:
                continue
            for name, values in predict(model, space.inputs(positions), features, TRANSFORM).items():
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    finite = np.isfinite(values.reshape(len(positions), -1)).all(axis=1)
                    point = describe_point(space, int(positions[np.argmin(finite)]))
                    raise RefusedError(f"the transform graph's {name!r} is not a finite number for {point}")


def describe_point(space: InputSpace, position: int) -> str:
    """The point's key as `name=value, …`."""
    (row,) = space.columns(np.array([position])).to_pylist()
    return ", ".join(f"{name}={value!r}" for name, value in row.items())


def _signature(model: Any, name: str) -> Any:
    if name not in model.signatures:
        raise ForetableError(f"the model has no signature {name!r}, only {', '.join(sorted(model.signatures))}")
    return model.signatures[name]
