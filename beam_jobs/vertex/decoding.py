"""Predictions in JSON become columns of numpy, strictly: what JSON or a server on the way has changed is refused.

A float32 is written as some decimal that rounds to it, and read back by rounding that decimal once.
"""

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from beam_jobs.vertex.predictions import Answers, shown
from configs.errors import ForetableError
from configs.outputs import Output

LARGEST_DOUBLE_INT = 2**53
"""From here on a double may be another integer than the model's."""
_FLOAT_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_NOT_ROUNDED = "a whole number that no double has rounded; use precompute.on: pipeline for numbers so large"
_INTEGER = re.compile(r"-?[0-9]{1,19}")

Refuse = Callable[[int, str], ForetableError]


def decode(answers: Answers, outputs: Sequence[Output]) -> dict[str, np.ndarray]:
    """The predictions by output, each `[num_answers]` or, of a vector, `[num_answers, width]`.

    Floats become float32, whole numbers int64, text bytes objects. A number that JSON has no word for (NaN, or null in
    its place) comes through as NaN, for whoever checks predictions to name its point.

    Raises:
        ForetableError: a prediction lacks an output, or it is not of its type; names file, instance and value.
    """
    return {output.name: _decode(answers, output, alone=len(outputs) == 1) for output in outputs}


def _decode(answers: Answers, output: Output, alone: bool) -> np.ndarray:
    try:
        values = [value[output.name] for value in answers.values]
    except (KeyError, TypeError):  # bare values, or something is wrong
        values = [_value(answers, row, value, output, alone) for row, value in enumerate(answers.values)]
    kind, is_array = output.type.removesuffix("[]"), output.type.endswith("[]")
    width = len(output.columns)

    def refuse(row: int, expected: str) -> ForetableError:
        return ForetableError(
            f"{answers.where}: instance {answers.keys[row]}: output {output.name!r} is {shown(values[row])};"
            f" expected {expected}"
        )

    if values and type(values[0]) is list:
        width = len(values[0]) if is_array else width
        for row, value in enumerate(values):
            if type(value) is not list or len(value) != width:
                raise refuse(row, f"a list of {width} value{'s' if width > 1 else ''}")
        flat = list(itertools.chain.from_iterable(values))
    else:
        if values and (is_array or width > 1):
            raise refuse(0, f"a list of {'values' if is_array else f'{width} values'}")
        width, flat = 1, values

    def exact(index: int) -> Any:
        value = _value(answers, index // width, answers.exact(index // width), output, alone)
        return value[index % width] if isinstance(value, list) else value

    def refuse_value(index: int, expected: str) -> ForetableError:
        return refuse(index // width, expected)

    column = {"float": _floats, "int": _ints, "string": _strings}[kind](flat, exact, refuse_value)
    return column if width == 1 and not is_array else column.reshape(-1, width)


def _value(answers: Answers, row: int, value: Any, output: Output, alone: bool) -> Any:
    """The output's part of a prediction."""
    if type(value) is dict:
        if output.name in value:
            return value[output.name]
        if alone and value.keys() == {"b64"}:
            return value
    elif alone:
        return value
    where = f"{answers.where}: instance {answers.keys[row]}"
    raise ForetableError(f"{where}: {shown(value)}: expected an object with output {output.name!r}")


def _floats(flat: list[Any], exact: Callable[[int], Any], refuse: Refuse) -> np.ndarray:
    if not set(map(type, flat)) <= {float, int}:
        flat = [_number(index, value, refuse) for index, value in enumerate(flat)]
    doubles = np.array([_double(value) if type(value) is int else value for value in flat], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so
        floats = doubles.astype(np.float32)
        off = doubles - floats
        other = np.nextafter(floats, np.where(off > 0, np.inf, -np.inf).astype(np.float32))
    # Rounding twice goes wrong where the double lies halfway between two floats, and the decimal only nearly so.
    halfway = (off != 0) & np.isfinite(floats) & (doubles == (floats.astype(np.float64) + other) / 2)
    for index in np.flatnonzero(halfway).tolist():
        written, middle = Decimal(exact(index)), Decimal(float(doubles[index]))
        if written != middle:
            floats[index] = (max if written > middle else min)(floats[index], other[index])
    return floats


def _number(index: int, value: Any, refuse: Refuse) -> float | int:
    if type(value) in (float, int):
        return value
    if value is None:
        return float("nan")
    if not isinstance(value, str) or value not in _FLOAT_WORDS:
        raise refuse(index, "a number")
    return _FLOAT_WORDS[value]


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _ints(flat: list[Any], exact: Callable[[int], Any], refuse: Refuse) -> np.ndarray:
    whole = flat if set(map(type, flat)) <= {int} else [_int(index, value, refuse) for index, value in enumerate(flat)]
    try:
        numbers = np.array(whole, np.int64)
    except OverflowError as error:
        index = next(index for index, value in enumerate(whole) if not -(2**63) <= value < 2**63)
        raise refuse(index, "a whole number of 64 bits") from error
    # A server that takes numbers for doubles may write them without a point. One that no double is proves that none
    # was taken for one.
    large = np.flatnonzero((numbers >= LARGEST_DOUBLE_INT) | (numbers <= -LARGEST_DOUBLE_INT)).tolist()
    suspects = [index for index in large if type(flat[index]) is int]
    if suspects and all(int(float(flat[index])) == flat[index] for index in suspects):
        raise refuse(suspects[0], _NOT_ROUNDED)
    return numbers


def _int(index: int, value: Any, refuse: Refuse) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) < LARGEST_DOUBLE_INT:
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):  # as protos write 64 bits in JSON
        return int(value)
    raise refuse(index, _NOT_ROUNDED)


def _strings(flat: list[Any], exact: Callable[[int], Any], refuse: Refuse) -> np.ndarray:
    texts = np.empty(len(flat), object)
    texts[:] = [
        value.encode() if type(value) is str else _bytes(index, value, refuse) for index, value in enumerate(flat)
    ]
    return texts


def _bytes(index: int, value: Any, refuse: Refuse) -> bytes:
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (TypeError, binascii.Error) as error:
            raise refuse(index, "base64") from error
    raise refuse(index, "text")
