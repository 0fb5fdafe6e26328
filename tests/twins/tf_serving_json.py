"""TensorFlow Serving's REST JSON as arrays: what it takes, what it refuses and in which words.

https://www.tensorflow.org/tfx/serving/api_rest#predict_api, and `tensorflow_serving/util/json_tensor.cc` of
https://github.com/tensorflow/serving, which is followed line by line where the page is silent.
"""

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INT64 = 2**63
BOUNDS = {"int32": 2**31, "int16": 2**31, "int8": 2**31, "uint8": 2**31, "int64": INT64}
DIGITS = {"float32": 24, "float64": 53}
NAMES = {
    "float32": "float",
    "float64": "double",
    "object": "string",
    "bool": "bool",
    **{name: name for name in BOUNDS},
    "uint32": "uint32",
    "uint64": "uint64",
}


class InvalidError(Exception):
    """A request that TensorFlow Serving answers with status 400."""


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of a signature.

    Attributes:
        dtype: of NumPy; `object` for strings.
    """

    name: str
    dtype: str


def shown(value: Any) -> str:
    """A value in a message, as it was in the request."""
    return json.dumps(value, indent=4, ensure_ascii=False)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _type_error(value: Any, dtype: str) -> InvalidError:
    kind = {type(None): "Null", bool: str(value), dict: "Object", list: "Array", str: "String"}.get(
        type(value), "Number"
    )
    return InvalidError(f"JSON Value: {shown(value)} Type: {kind} is not of expected type: {NAMES[dtype]}")


def scalar(value: Any, dtype: str) -> Any:
    """One value of a tensor.

    Raises:
        InvalidError: it is not of the type, or would lose precision.
    """
    if dtype == "object":
        if isinstance(value, str):
            return value.encode()
        if not isinstance(value, dict):
            raise _type_error(value, dtype)
        if not _is_base64(value):
            raise InvalidError(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise InvalidError("Unable to base64 decode") from None
    if dtype == "bool":
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _type_error(value, dtype)
    if dtype in DIGITS:
        if not _is_lossless(value, dtype):
            raise InvalidError(
                f"Cannot convert JSON value: {shown(value)} to {NAMES[dtype]} without loss of precision."
            )
        return value
    lowest, bound = (-BOUNDS[dtype], BOUNDS[dtype]) if dtype in BOUNDS else (0, 2 ** int(dtype[4:]))
    if not isinstance(value, int) or not lowest <= value < bound:
        raise _type_error(value, dtype)
    return value


def _is_lossless(value: int | float, dtype: str) -> bool:
    if isinstance(value, int):
        # An integer beyond uint64 is read as a double there.
        if -INT64 <= value < 2 * INT64:
            return abs(value) <= 2 ** DIGITS[dtype] - 1
        value = float(value)
    return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _fill(value: Any, level: int, shape: tuple[int, ...], dtype: str, filled: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidError(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level:"
                f" {len(shape)}"
            )
        filled.append(scalar(value, dtype))
        return
    if level >= len(shape):
        raise InvalidError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for each in value:
        _fill(each, level + 1, shape, dtype, filled)


class _Column:
    """The values of one input, instance by instance."""

    def __init__(self, dtype: str):
        self.dtype, self.shape, self.size = dtype, None, 0
        self.values: list[Any] = []

    def add(self, value: Any) -> None:
        shape, before = _shape(value), len(self.values)
        _fill(value, 0, shape, self.dtype, self.values)
        size = len(self.values) - before
        if self.shape is None:
            self.shape, self.size = shape, size
        elif size != self.size:
            raise InvalidError(f"Expecting tensor size: {self.size} but got: {size}")
        elif shape != self.shape:
            raise InvalidError(f"Expecting shape {_text(self.shape)} but got: {_text(shape)}")

    def array(self, count: int | None = None) -> np.ndarray:
        shape = self.shape if count is None else (count, *self.shape)
        array = np.empty(len(self.values), self.dtype)
        with np.errstate(over="ignore"):
            array[:] = self.values
        return array.reshape(shape)


def _text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def read_request(text: bytes) -> dict[str, Any]:
    """The JSON of a request; `NaN` and `Infinity` are numbers there.

    Raises:
        InvalidError: it is not a JSON object.
    """
    try:
        request = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise InvalidError(f"JSON Value: {shown(request)} Is not object")
    if not isinstance(request.get("signature_name", ""), str):
        raise InvalidError(
            f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return request


def tensors(request: Mapping[str, Any], inputs: Sequence[Input]) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays by input, and whether the request has them by instances (`row` format) rather than by inputs.

    Raises:
        InvalidError: the request does not fit the signature.
    """
    if "instances" in request and "inputs" in request:
        raise InvalidError(
            f"JSON Value: {shown(request)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys"
            " to exist "
        )
    if "inputs" in request:
        return _from_inputs(request["inputs"], inputs), False
    if "instances" not in request:
        raise InvalidError("Missing 'inputs' or 'instances' key")
    instances = request["instances"]
    if not isinstance(instances, list):
        raise InvalidError(f"JSON Value: {shown(request)} Excepting 'instances' to be an list/array")
    if not instances:
        raise InvalidError(f"JSON Value: {shown(request)} No values in 'instances' array")
    return _from_instances(instances, inputs), True


def _from_instances(instances: list[Any], inputs: Sequence[Input]) -> dict[str, np.ndarray]:
    columns = {each.name: _Column(each.dtype) for each in sorted(inputs, key=lambda each: each.name)}
    if not isinstance(instances[0], dict) and len(columns) > 1:
        raise InvalidError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    has_objects = _is_object(instances[0])
    only = next(iter(columns))
    for index, instance in enumerate(instances):
        if has_objects != _is_object(instance):
            expected = "object but got list at item" if has_objects else "value/list but got object at item"
            raise InvalidError(f"Expecting {expected} {index} of input list")
        for name, value in (instance if has_objects else {only: instance}).items():
            key = f" key: {name}" if has_objects else ""
            try:
                if name not in columns:
                    raise InvalidError(f"JSON object: does not have named input: {name}")
                columns[name].add(value)
            except InvalidError as error:
                raise InvalidError(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {error}"
                ) from error
        if has_objects and set(instance) != set(columns):
            raise InvalidError(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shown(instance)} keys must be"
                f" equal to: {','.join(columns)}"
            )
    return {name: column.array(len(instances)) for name, column in columns.items()}


def _from_inputs(value: Any, inputs: Sequence[Input]) -> dict[str, np.ndarray]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise InvalidError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
                " tensorinfo_map"
            )
        value = {inputs[0].name: value}
    arrays = {}
    for each in inputs:
        if each.name not in value:
            raise InvalidError(f"Missing named input: {each.name} in 'inputs' object.")
        column = _Column(each.dtype)
        column.add(value[each.name])
        arrays[each.name] = column.array()
    return arrays
