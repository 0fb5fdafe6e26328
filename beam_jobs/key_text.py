"""A key as a person types it, `column=value …`, and the values that it means."""

import contextlib
import difflib
import math
from collections.abc import Mapping, Sequence

from beam_jobs.warehouses.base import Value
from configs.errors import JobError
from configs.outputs import TableType


def parse_key(arguments: Sequence[str]) -> dict[str, str]:
    """Splits `column=value` arguments.

    Raises:
        JobError: one is not of that form, or a column comes twice.
    """
    key: dict[str, str] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            raise JobError(f"{argument!r}: expected column=value, such as mother_age=29")
        if name in key:
            raise JobError(f"{argument!r}: {name} is given twice")
        key[name] = text
    return key


def check_names(names: Sequence[str], key: Mapping[str, str]) -> None:
    """Holds the columns of a key against those that it has to have.

    Raises:
        JobError: one is unknown, or has no value.
    """
    problems = []
    for name in key:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(names)}"
            problems.append(f"unknown column {name!r}: {hint}")
    absent = [name for name in names if name not in key]
    if absent and not problems:
        problems.append(f"no value of {', '.join(absent)}: expected {' '.join(f'{name}=…' for name in names)}")
    if problems:
        raise JobError(*problems)


def parse_value(name: str, kind: TableType, text: str, is_word: bool = False) -> Value:
    """The value of a column that `text` is; empty or `null` is the missing value.

    Args:
        is_word: whether a string column is known to have just this text as a value.

    Raises:
        JobError: it is no value of the column's type.
    """
    if kind == "string":
        return None if text in ("", "null") and not is_word else text
    if text in ("", "null"):
        return None
    value = _number(kind, text)
    if value is None:
        expected = "a whole number" if kind == "int" else "a number"
        raise JobError(f"{name}={text!r}: expected {expected}, or nothing for the missing value")
    return value


def _number(kind: TableType, text: str) -> float | int | None:
    """The number that `text` is; None for what is none, and for NaN, which is no value to ask for."""
    with contextlib.suppress(ValueError):
        if kind == "int":
            return int(text)
    with contextlib.suppress(ValueError):
        number = float(text)
        if kind == "float":
            return None if math.isnan(number) else number
        return int(number) if number.is_integer() else None
    return None
