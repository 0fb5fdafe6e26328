"""A SavedModel that somebody else made: what its signature takes and gives, and a scorer that calls it.

Nothing is known of its graph, so each axis value is turned into the signature's own type beforehand, and only where
that loses nothing; a missing value is replaced by the declared one before the model sees it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import ForetableError, JobError, RefusedError
from configs.features import ColumnType, Feature
from configs.modeling import COLUMN_NAME, ForeignOutput
from configs.outputs import ARRAY_TYPES, Output, OutputType, class_columns
from transforms.scoring.serving import load_model
from transforms.space.input_space import InputSpace, Points

_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"}
_TYPE_OF: dict[str, ColumnType] = {
    "string": "string",
    **dict.fromkeys(("float16", "bfloat16", "float32"), "float"),
    **dict.fromkeys(_INTEGERS, "int"),
}
_INPUT_TYPES = {"string", "float16", "float32", "float64", "uint64", *_INTEGERS}
_NUMPY_TYPES = {"float": np.float32, "int": np.int64}


@dataclasses.dataclass(frozen=True)
class ForeignCall:
    """How a foreign model is called.

    Attributes:
        signature: that predicts.
        missing: what takes a missing value's place, for each feature that may be missing.
    """

    signature: str
    missing: tuple[tuple[str, str | int | float], ...] = ()

    @classmethod
    def of(cls, signature: str, features: Mapping[str, Feature]) -> "ForeignCall":
        """The call of this signature, with the features' declared `missing:` values."""
        missing = {name: feature.missing for name, feature in features.items() if feature.missing is not None}
        return cls(signature, tuple(missing.items()))


def find_outputs(model_dir: str, signature: str, declared: Mapping[str, ForeignOutput]) -> tuple[Output, ...]:
    """Outputs of a signature as columns of the prediction table, with names and types as declared or as found.

    Args:
        model_dir: a local folder.
        declared: by output, in the table's order; if there are none, all outputs are taken, sorted by name.

    Raises:
        JobError: a declaration does not fit the signature.
        RefusedError: an output is nothing that a column can hold.
        ForetableError: there is no such model or signature.
    """
    given = _signature(model_dir, signature).structured_outputs
    for name in declared:
        if name not in given:
            raise JobError(f"model.outputs.{name}: signature {signature!r} has no such output, only {_names(given)}")
    outputs = tuple(
        _output(name, given[name], declared.get(name, ForeignOutput())) for name in declared or sorted(given)
    )
    seen: dict[str, str] = {}
    for output in outputs:
        for column in output.columns:
            if (other := seen.setdefault(column.casefold(), output.name)) != output.name:
                raise JobError(f"model.outputs.{output.name}: column {column!r} is that of output {other!r} too")
    return outputs


def _output(name: str, spec: Any, declared: ForeignOutput) -> Output:
    path, column = f"model.outputs.{name}", declared.column or name
    if not re.fullmatch(COLUMN_NAME, column):
        raise JobError(f"{path}: {name!r} is no name for a column; set {path}.column")
    column_type = _output_type(path, spec.dtype.name, declared)
    shape, classes = _shape(spec), declared.classes
    if shape is None or len(shape) not in (1, 2) or shape[0] is not None or shape[1:] == (0,):
        raise RefusedError(f"{path}: has shape {_shape_text(spec)}; expected [N], [N, 1] or [N, k], a row for each row")
    width = shape[1] if len(shape) == 2 else 1
    if classes is not None:
        if width not in (None, len(classes)):
            raise JobError(f"{path}.classes: {len(classes)} classes for an output of shape {_shape_text(spec)}")
        columns = class_columns(column, classes)
        if len(set(columns)) < len(columns):
            raise JobError(f"{path}.classes: {list(classes)}: two would have one column's name ({', '.join(columns)})")
        return Output(name=name, type=column_type, columns=columns, description=declared.description)
    if width is None:
        raise RefusedError(
            f"{path}: has shape {_shape_text(spec)}, of unknown length; name its classes in {path}.classes"
        )
    kind: OutputType = ARRAY_TYPES[column_type] if width != 1 else column_type
    return Output(name=name, type=kind, columns=(column,), description=declared.description)


def _output_type(path: str, found: str, declared: ForeignOutput) -> ColumnType:
    if found == "float64":
        if declared.type == "float":
            return "float"
        raise RefusedError(
            f"{path}: is float64 in the model; set {path}.type: float to round it to the table's float32"
        )
    if found not in _TYPE_OF:
        raise RefusedError(f"{path}: is {found} in the model; expected a number of up to 32 bits, int64 or string")
    if declared.type not in (None, _TYPE_OF[found]):
        raise JobError(
            f"{path}.type: {declared.type!r}: the output is {found} in the model, expected {_TYPE_OF[found]}"
        )
    return _TYPE_OF[found]


class ForeignScorer:
    """Calls a foreign model's signature on a block's full columns, gathered from the axes' rows in its own types.

    Safe to call from several threads.
    """

    def __init__(
        self,
        model_dir: str,
        call: ForeignCall,
        features: Mapping[str, ColumnType],
        outputs: Sequence[Output],
        space: InputSpace,
    ):
        """Loads the model and puts the axes' values where TensorFlow gathers them from.

        Raises:
            RefusedError: an input is not one for its feature, or an axis has a value that it cannot take as it is.
            ForetableError: the model or its signature is not there.
        """
        import tensorflow as tf

        self._name = _described(model_dir, call)
        self._signature = _signature(model_dir, call.signature)
        self._outputs = tuple(outputs)
        inputs = foreign_inputs(model_dir, call, features, space)
        self._values = {name: (index, tf.constant(values)) for name, (index, values) in inputs.items()}

    def score(self, points: Points) -> dict[str, np.ndarray]:
        """Predictions for these points: see `transforms.scoring.serving.Scorer`.

        Raises:
            ForetableError: the model failed, or gave another number of rows than it got.
        """
        import tensorflow as tf

        indices = [tf.constant(index) for index in points.indices]
        inputs = {name: tf.gather(values, indices[axis]) for name, (axis, values) in self._values.items()}
        try:
            predictions = self._signature(**inputs)
        except tf.errors.OpError as error:
            raise ForetableError(f"{self._name} failed: {str(error).splitlines()[0]}") from error
        return {
            output.name: self._table_values(predictions[output.name], output, len(points)) for output in self._outputs
        }

    def _table_values(self, tensor: Any, output: Output, rows: int) -> np.ndarray:
        values: np.ndarray = tensor.numpy()
        if values.shape[:1] != (rows,):
            shape = list(values.shape)
            raise ForetableError(f"{self._name}: output {output.name!r} has shape {shape} for {rows} rows")
        kind = output.type.removesuffix("[]")
        return values if kind == "string" else values.astype(_NUMPY_TYPES[kind], copy=False)


def foreign_inputs(
    model_dir: str, call: ForeignCall, features: Mapping[str, ColumnType], space: InputSpace
) -> dict[str, tuple[int, np.ndarray]]:
    """Each input's axis, and the axis's rows as the signature takes them: `[num_rows]` or `[num_rows, 1]`, of its type.

    Raises:
        RefusedError: an input is not one for its feature, or an axis has a value that it cannot take as it is.
        ForetableError: the model or its signature is not there.
    """
    where, specs = _described(model_dir, call), _signature(model_dir, call.signature).structured_input_signature[1]
    _check_names(where, specs, features)
    missing = dict(call.missing)
    return {
        name: (index, _input_values(where, name, axis.inputs[name], missing.get(name), specs[name]))
        for index, axis in enumerate(space.axes)
        for name in axis.inputs.column_names
        if name in features
    }


def _described(model_dir: str, call: ForeignCall) -> str:
    return f"{model_dir}: signature {call.signature!r}"


def _signature(model_dir: str, name: str) -> Any:
    signatures = load_model(model_dir).signatures
    if name not in signatures:
        raise JobError(f"model.signature: {name!r}: {model_dir} has only {_names(signatures)}")
    return signatures[name]


def _check_names(where: str, specs: Mapping[str, Any], features: Mapping[str, ColumnType]) -> None:
    for name in specs:
        if name not in features:
            raise RefusedError(f"{where} takes {name!r}, which is no feature of the job ({_names(features)})")
    for name in features:
        if name not in specs:
            raise RefusedError(f"{where} takes no {name!r}, only {_names(specs)}")


def _input_values(
    where: str, name: str, column: pa.ChunkedArray, missing: str | int | float | None, spec: Any
) -> np.ndarray:
    """An axis column as the signature takes it: `[num_rows]` or `[num_rows, 1]`, of its type."""
    shape, taken = _shape(spec), spec.dtype.name
    if shape is None or len(shape) not in (1, 2) or shape[0] is not None or shape[1:] not in ((), (1,), (None,)):
        raise RefusedError(f"{where}: input {name!r} has shape {_shape_text(spec)}; expected [N] or [N, 1]")
    if taken not in _INPUT_TYPES:
        raise RefusedError(f"{where}: input {name!r} is {taken}; expected a number or string")
    is_text = pa.types.is_string(column.type)
    if is_text != (taken == "string"):
        raise RefusedError(f"{where}: input {name!r} is {taken}, the feature {'string' if is_text else 'a number'}")
    if missing is not None:
        column = pc.fill_null(column, pa.scalar(missing, column.type))
    if is_text:
        values = pc.cast(column, pa.large_binary()).to_numpy(zero_copy_only=False)
    else:
        values = column.to_numpy()
        changed = np.flatnonzero(~_fits(values, np.dtype(taken)))
        if len(changed):
            value = values[changed[0]].item()
            raise RefusedError(f"{where}: input {name!r} is {taken}, which cannot take {value!r} as it is")
        values = values.astype(taken)
    return values.reshape(-1, *(1 for _ in shape[1:]))


def _fits(values: np.ndarray, taken: np.dtype) -> np.ndarray:
    """Which float64 or int64 values are the same number in the type that is taken, `[num_rows]`.

    Every float64 fits float32: a feature of type float is a float32 to any model.
    """
    if taken.kind == "f":
        with np.errstate(over="ignore"):
            cast = values.astype(taken)
        rounds = values.dtype.kind == "f" and taken == np.float32
        return np.isfinite(cast) if rounds else np.isfinite(cast) & _equal(cast, values)
    low, high = (0, 1) if taken.kind == "b" else (np.iinfo(taken).min, np.iinfo(taken).max)
    if values.dtype.kind == "i":
        return (values >= max(low, -(2**63))) & (values <= min(high, 2**63 - 1))
    # As a float, the highest 64-bit number rounds up to one that does not fit.
    return (values >= low) & (values < float(high) + (1 if high < 2**53 else 0)) & (values == np.trunc(values))


def _equal(cast: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether a cast to floats kept each number: int64 and float64 cannot be compared without rounding one of them."""
    if values.dtype.kind == "f":
        return cast.astype(np.float64) == values
    inside = np.abs(cast.astype(np.float64)) < 2.0**63
    return inside & (np.where(inside, cast, 0).astype(np.int64) == values)


def _shape(spec: Any) -> tuple[int | None, ...] | None:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())


def _shape_text(spec: Any) -> str:
    shape = _shape(spec)
    return "unknown" if shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def _names(names: Any) -> str:
    return ", ".join(sorted(names))
