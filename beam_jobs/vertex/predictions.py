"""What a batch prediction job wrote, in Vertex's shapes: predictions and errors, each with the key of its instance.

A prediction is what TensorFlow Serving's REST API answers for an instance: the value itself of a model with one
output, an object by output's name of one with several, `{"b64": …}` for bytes.
https://www.tensorflow.org/tfx/serving/api_rest#predict_api
"""

import contextlib
import dataclasses
import decimal
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from configs.errors import ForetableError

PREDICTION, ERROR, INSTANCE, KEY = "prediction", "error", "instance", "key"
_LONGEST_SHOWN = 200
_MOST_DIGITS = 19  # of an int64
_BLANK = object()
"""A line that is none."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """An instance that was not predicted.

    Attributes:
        key: of the instance; None where the job says only why, and not for which.
        reason: as the model server put it.
    """

    key: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Answers:
    """Some instances' predictions, as JSON has them.

    Attributes:
        where: file or table, for messages.
        keys: of the instances.
        values: their predictions, in the same order.
        exact: the prediction at an index again, with `decimal.Decimal` for each float.
        failures: that stood among them.
    """

    where: str
    keys: Sequence[str]
    values: Sequence[Any]
    exact: Callable[[int], Any]
    failures: Sequence[Failure] = ()

    def cells(self) -> np.ndarray:
        """The keys as the numbers that they are, int64 `[num_answers]`.

        Raises:
            ForetableError: one is no such number.
        """
        joined = "".join(self.keys)
        if (joined.isascii() and joined.isdecimal() and all(self.keys)) or not self.keys:
            with contextlib.suppress(OverflowError, ValueError):  # too large for 64 bits, or for Python to read
                return np.array([int(key) for key in self.keys], np.int64)
        bad = next(key for key in self.keys if not _is_cell(key))
        raise ForetableError(
            f"{self.where}: key {shown(bad)}: no instance has it; was the file written by another job?"
        )


def _is_cell(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) <= _MOST_DIGITS and int(key) <= np.iinfo(np.int64).max


def prediction_lines(lines: Sequence[bytes], where: str, first_line: int = 1) -> Answers:
    """Answers in lines of a job's prediction files.

    Args:
        where: the file.
        first_line: number of the first of them there.

    Raises:
        ForetableError: a line is not one of a prediction; names it.
    """
    rows = _rows(lines, where, first_line)

    def exact(index: int) -> Any:
        return json.loads(lines[chosen[index]], parse_float=decimal.Decimal)[PREDICTION]

    chosen: Sequence[int] = range(len(rows))
    try:
        keys, values = [row[KEY] for row in rows], [row[PREDICTION] for row in rows]
        if set(map(type, keys)) <= {str}:
            return Answers(where, keys, values, exact)
    except (KeyError, TypeError):
        pass
    keys, values, chosen, failures = [], [], [], []
    for index, row in enumerate(rows):
        if row is _BLANK:
            continue
        key = _key(row)
        if key is None or (PREDICTION not in row and ERROR not in row):
            raise ForetableError(f"{where}: line {first_line + index}: not a prediction with its key: {shown(row)}")
        if PREDICTION in row:
            keys.append(key)
            values.append(row[PREDICTION])
            chosen.append(index)
        else:
            failures.append(Failure(key, _reason(row[ERROR])))
    return Answers(where, keys, values, exact, failures)


def prediction_rows(keys: Sequence[Any], values: Sequence[Any], where: str) -> Answers:
    """Answers in rows of a job's prediction table: text in a row is the prediction's JSON.

    Raises:
        ForetableError: a key or a text is not one.
    """
    for key in keys:
        if not isinstance(key, str):
            raise ForetableError(f"{where}: key {key!r}: expected a string")
    if not set(map(type, values)) <= {str}:
        return Answers(where, keys, values, lambda index: values[index])
    texts = [value.encode() for value in values]
    parsed = _parse(texts)
    if parsed is None:
        return Answers(where, keys, [_loaded(text) for text in values], lambda index: values[index])
    return Answers(where, keys, parsed, lambda index: json.loads(texts[index], parse_float=decimal.Decimal))


def error_lines(lines: Sequence[bytes]) -> list[Failure]:
    """Failures in lines of a job's error files.

    Vertex documents an object with the instance and an `error`; jobs of custom models are also seen to write text such
    as `('Post request fails. Cannot get predictions. Error: …', 64)`, which names no instance.
    """
    failures = []
    for line in lines:
        row = _loaded(line.decode(errors="replace"))
        has_error = isinstance(row, dict) and ERROR in row
        failures.append(Failure(_key(row), _reason(row[ERROR] if has_error else row)))
    return failures


def error_row(key: Any, error: Any) -> Failure:
    """The failure in a row of a job's error table."""
    return Failure(key if isinstance(key, str) else None, _reason(_loaded(error) if isinstance(error, str) else error))


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _rows(lines: Sequence[bytes], where: str, first_line: int) -> list[Any]:
    rows = _parse(lines)
    if rows is not None:
        return rows
    rows = []
    for number, line in enumerate(lines, first_line):
        try:
            rows.append(json.loads(line) if line.strip() else _BLANK)
        except ValueError as error:
            raise ForetableError(f"{where}: line {number}: not JSON: {shown(line)} ({error})") from error
    return rows


def _parse(texts: Sequence[bytes]) -> list[Any] | None:
    """Values of many texts, read as one: several times as fast as each by itself. None where one of them is no JSON."""
    try:
        values = json.loads(b"[" + b",".join(texts) + b"]")
    except ValueError:
        return None
    return values if isinstance(values, list) and len(values) == len(texts) else None


def _key(row: Any) -> str | None:
    """The key beside a prediction, or in the instance beside it where the job was given no field for it."""
    if not isinstance(row, dict):
        return None
    instance = row.get(INSTANCE)
    key = row.get(KEY, instance.get(KEY) if isinstance(instance, dict) else None)
    return str(key) if isinstance(key, str | int) and not isinstance(key, bool) else None


def _reason(error: Any) -> str:
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
