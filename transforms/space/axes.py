"""An axis of the input space: a small table of distinct rows, built from what the job file declares.

Everything that can be wrong with an axis is found here, before anything is scored.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import ForetableError, JobError, RefusedError
from configs.features import ColumnType, Feature
from configs.space import DistinctAxis, RangeAxis, RowsAxis, ValuesAxis, VocabularyAxis
from transforms.columns import ARROW_TYPES, MISSING_INT

MAX_RANGE_VALUES = 10_000_000
OTHER = "(other)"
_NO_MISSING = "has the missing value, and features.{} declares no missing: value to replace it"

ReadTable = Callable[[DistinctAxis | RowsAxis, Mapping[str, ColumnType]], pa.Table]
ReadWords = Callable[[str], Iterable[str]]
ReadExamples = Callable[[], pa.Table]


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        kind: as declared in the job file.
        table: its rows, all distinct, as the prediction table has them; null is the missing value.
        keys: the columns that name a row; by default all.
        representatives: what stands for each row in the graph, where that is not in the row itself: raw features,
            row for row.
    """

    name: str
    kind: str
    table: pa.Table
    keys: tuple[str, ...] = ()
    representatives: pa.Table | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            object.__setattr__(self, "keys", tuple(self.table.column_names))

    @property
    def inputs(self) -> pa.Table:
        """What the model is given for each row; columns that are no features go nowhere."""
        return self.table if self.representatives is None else self.representatives


def build_axis(
    name: str,
    node: ValuesAxis | RangeAxis | VocabularyAxis | DistinctAxis | RowsAxis,
    features: Mapping[str, Feature],
    read: ReadTable,
    words: ReadWords,
    examples: ReadExamples,
) -> Axis:
    """Builds the axis that the job file declares at `input_space.axes.<name>`.

    Args:
        features: all raw features; an axis of one feature has the feature's name.
        read: reads columns of the source of a `distinct` or `rows` axis; of the former, each row at least once.
        words: a feature's vocabulary in the transform graph; an int feature's as text.
        examples: the job's own examples, for `distinct: examples`.

    Raises:
        JobError: the declaration is wrong.
        RefusedError: the data it names are.
    """
    path = f"input_space.axes.{name}"
    if isinstance(node, DistinctAxis):
        return _distinct_axis(name, path, node, features, read, examples)
    if isinstance(node, RowsAxis):
        return _rows_axis(name, path, node, features, read)
    if isinstance(node, VocabularyAxis):
        return _feature_axis(name, "vocabulary", _vocabulary_values(path, name, features[name], words), features)
    return build_declared_axis(name, node, features)


def build_declared_axis(name: str, node: ValuesAxis | RangeAxis, features: Mapping[str, Feature]) -> Axis:
    """Builds an axis whose values are all in the job file, at `input_space.axes.<name>`.

    Raises:
        JobError: the declaration is wrong.
    """
    kind = "range" if isinstance(node, RangeAxis) else "values"
    return _feature_axis(name, kind, declared_values(name, node, features[name]), features)


def declared_values(name: str, node: ValuesAxis | RangeAxis, feature: Feature) -> list[Any]:
    """Values of an axis that are all in the job file, at `input_space.axes.<name>`; None is the missing value.

    Raises:
        JobError: the declaration is wrong.
    """
    path = f"input_space.axes.{name}"
    if isinstance(node, RangeAxis):
        values = _range_values(path, node, feature.type)
    else:
        values = [check_value(f"{path}.values", value, feature.type) for value in node.values]
    if not values:
        raise JobError(f"{path}: has no values; expected at least one")
    if None in values and not feature.may_be_missing:
        raise JobError(f"{path}: {_NO_MISSING.format(name)}")
    value, count = collections.Counter(values).most_common(1)[0]
    if count > 1:
        raise JobError(f"{path}: {name}={value!r} is there {count} times; expected each row once")
    return values


def _feature_axis(name: str, kind: str, values: list[Any], features: Mapping[str, Feature]) -> Axis:
    table = pa.table({name: pa.array(values, ARROW_TYPES[features[name].type])})
    _check_rows(f"input_space.axes.{name}", table, features, table.column_names, JobError)
    return Axis(name, kind, table)


def check_value(path: str, value: Any, column_type: ColumnType) -> Any:
    """The value, declared at `path` of the job file, as a column of this type has it; null is the missing value.

    Raises:
        JobError: it is not one of this type.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        raise JobError(
            f"{path}: {value!r}: expected {column_type}; YAML reads a truth value here: quote it if it is text"
        )
    if column_type == "string":
        if not isinstance(value, str):
            raise JobError(f"{path}: {value!r}: expected text; quote it")
        if value == "":
            raise JobError(f"{path}: '': the empty string travels as the missing value; write null")
        return value
    if isinstance(value, str):
        raise JobError(f"{path}: {value!r}: expected a number for a feature of type {column_type}")
    if not math.isfinite(value) or (column_type == "int" and value != int(value)):
        raise JobError(f"{path}: {value!r}: expected a {'whole' if column_type == 'int' else 'finite'} number")
    if column_type == "float":
        return float(value) + 0.0  # no negative zero, which databases take for another key or for the same
    if not MISSING_INT < int(value) < 2**63:
        raise JobError(f"{path}: {value!r}: expected a number of 64 bits")
    return int(value)


def _range_values(path: str, node: RangeAxis, column_type: ColumnType) -> list[Any]:
    if column_type == "string":
        raise JobError(f"{path}.range: {list(node.range)}: expected a feature of numbers, not of text; list values")
    for setting, value in (("range", node.range[0]), ("range", node.range[1]), ("step", node.step)):
        check_value(f"{path}.{setting}", value, column_type)
    # Exact arithmetic on the numbers as written: 12 + 3 * 0.1 has to be the 12.3 that a reader looks up.
    low, high, step = (Fraction(repr(number)) for number in (*node.range, node.step))
    if low > high:
        raise JobError(f"{path}.range: {list(node.range)}: expected the lower bound first")
    steps = (high - low) / step
    if steps.denominator != 1:
        nearest = [float(low + step * math.floor(steps)), float(low + step * math.ceil(steps))]
        raise JobError(
            f"{path}.range: {node.range[1]!r}: expected {node.range[0]!r} and a whole number of steps of {node.step!r},"
            f" such as {nearest[0]!r} or {nearest[1]!r}"
        )
    if steps >= MAX_RANGE_VALUES:
        raise JobError(f"{path}.step: {node.step!r}: gives {int(steps) + 1:,} values, more than {MAX_RANGE_VALUES:,}")
    convert = int if column_type == "int" else float
    values: list[Any] = [convert(low + step * index) for index in range(int(steps) + 1)]
    return [*values, None] if node.missing else values


def _vocabulary_values(path: str, name: str, feature: Feature, words: ReadWords) -> list[Any]:
    if feature.type == "float":
        raise JobError(f"{path}.vocabulary: a float feature has none; give a range or list values")
    try:
        texts = set(words(name)) - {""}
    except ForetableError as error:
        raise type(error)(f"{path}.vocabulary: {error}") from error
    missing = [None] if feature.may_be_missing else []
    # Sorted: a vocabulary's own order follows frequencies, and would move rows from night to night.
    if feature.type == "int":
        numbers = sorted(int(text) for text in texts)
        other = max(numbers, default=-1) + 1
        return [*numbers, other if other < 2**63 else min(numbers) - 1, *missing]
    unseen = OTHER
    while unseen in texts:
        unseen += "_"
    return [*sorted(texts), unseen, *missing]


def _distinct_axis(
    name: str,
    path: str,
    node: DistinctAxis,
    features: Mapping[str, Feature],
    read: ReadTable,
    examples: ReadExamples,
) -> Axis:
    types = {column: features[column].type for column in node.columns}
    rows = examples().select(list(types)) if node.distinct == "examples" else read(node, types)
    combinations = _as_declared(rows, types).group_by(list(types), use_threads=False).aggregate([])
    # Sorted: rows come from files in no order that a reader could rely on.
    table = combinations.select(list(types)).sort_by([(column, "ascending") for column in types])
    _check_rows(path, table, features, table.column_names, RefusedError)
    return Axis(name, "distinct", table)


def _rows_axis(name: str, path: str, node: RowsAxis, features: Mapping[str, Feature], read: ReadTable) -> Axis:
    types: dict[str, ColumnType] = dict.fromkeys(node.keys, "string")
    types |= {column: feature.type for column, feature in features.items()}
    table = _as_declared(read(node, types), types)
    for key in node.keys:
        if table[key].null_count:
            raise RefusedError(f"{path}.keys: {key} is missing in {table[key].null_count} rows; expected it in each")
    keys = node.keys or tuple(types)
    _check_rows(path, table, features, list(keys), RefusedError)
    return Axis(name, "rows", table, keys)


def _as_declared(table: pa.Table, types: Mapping[str, ColumnType]) -> pa.Table:
    """The columns with one spelling of each value: no NaN or empty string beside null, no negative zero."""
    columns = {}
    for name, column_type in types.items():
        column = pc.cast(table[name], ARROW_TYPES[column_type])
        if column_type == "float":
            column = pc.if_else(pc.is_nan(column), None, pc.add(column, 0.0))
        elif column_type == "string":
            column = pc.if_else(pc.equal(column, ""), None, column)
        columns[name] = column
    return pa.table(columns)


def _check_rows(
    path: str, table: pa.Table, features: Mapping[str, Feature], keys: list[str], error: type[ForetableError]
) -> None:
    if table.num_rows == 0:
        raise error(f"{path}: has no values; expected at least one")
    for name in table.column_names:
        feature = features.get(name)
        if feature is None:
            continue
        if table[name].null_count and not feature.may_be_missing:
            raise error(f"{path}: {_NO_MISSING.format(name)}")
        if feature.type == "float":
            _check_float32(path, table[name], error)
    counts = table.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        row = repeated.select(keys).slice(0, 1).to_pylist()[0]
        described = ", ".join(f"{name}={value!r}" for name, value in row.items())
        raise error(f"{path}: {described} is there {repeated['count_all'][0]} times; expected each row once")


def _check_float32(path: str, column: pa.ChunkedArray, error: type[ForetableError]) -> None:
    """A float travels into the graph as float32."""
    largest = pc.max(pc.abs(column)).as_py()
    if largest is not None and largest > float(np.finfo(np.float32).max):
        raise error(f"{path}: {largest!r}: expected a number within float32's range")
