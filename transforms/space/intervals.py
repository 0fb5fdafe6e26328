"""A `buckets` axis: all values of a numeric feature as the intervals inside which no transformed output can change.

The edges are found on the exported graph itself and to the last bit. An interval holds its lower bound and not its
upper one; a number that a reader asks for is the float32 that the model would see.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from configs.errors import ForetableError, JobError, RefusedError
from configs.features import ColumnType, Feature
from configs.space import BucketsAxis, interval_columns
from transforms.columns import ARROW_TYPES, graph_column
from transforms.graphs.dependencies import Dependency, output_dependencies
from transforms.graphs.step_tensors import StepTensors, find_step_tensors
from transforms.scoring.serving import TRANSFORM
from transforms.scoring.shards import TableColumn
from transforms.space.axes import Axis, check_value
from transforms.space.bisection import TooManyEdgesError, find_edges, from_order, order_bounds, to_order

MAX_INTERVALS = 1 << 16


def build_buckets_axis(
    name: str, node: BucketsAxis, features: Mapping[str, Feature], model: Any, example: Mapping[str, Any]
) -> Axis:
    """Builds the axis that the job file declares at `input_space.axes.<name>`.

    Args:
        features: all raw features; the axis has the name of its own.
        model: of `load_model`.
        example: a valid value of each other feature, None for a missing one.

    Returns:
        The axis: its columns are those of `interval_columns`, and it is represented by one value of each interval.

    Raises:
        JobError: the declaration is wrong.
        RefusedError: a transformed output is not piecewise constant in the feature, or cannot be shown to be.
    """
    path, feature = f"input_space.axes.{name}", features[name]
    low, high = _positions(path, node, feature.type)
    if TRANSFORM not in model.signatures:
        raise JobError(f"{path}.buckets: the model has no signature {TRANSFORM!r} to find edges on; list values")
    transform = model.signatures[TRANSFORM]
    dependencies = output_dependencies(transform)
    steps = find_step_tensors(transform, name, feature.type, low, high)
    for output, dependency in dependencies.items():
        if output in steps.reached and not dependency.by_row:
            raise RefusedError(
                f"{path}.buckets: the transformed feature {output!r} may depend on other rows than its own, so that no"
                f" edge of {name} is certain; list values or give a step"
            )
    starts = _find_starts(path, name, steps, low, high)
    types = {other: node.type for other, node in features.items()}
    ends = np.append(starts[1:] - 1, high)
    at_starts, at_ends = (
        _transformed(transform, name, from_order(positions, feature.type), types, example)
        for positions in (starts, ends)
    )
    for output, dependency in dependencies.items():
        if dependency.exact and _differ(at_starts[output], at_ends[output]).any():
            raise ForetableError(
                f"{path}.buckets: {output!r} changes inside an interval in which it was proved constant"
            )
    is_new = _is_new(steps, starts, dependencies, at_starts)
    return _axis(name, feature, starts[is_new], (low, high), node.range is not None)


def describe_columns(name: str, feature: Feature) -> tuple[TableColumn, ...]:
    """Columns of the axis in the prediction table."""
    about = feature.description or name
    texts = (
        f"{about}: from this value on; NULL: from any",
        f"{about}: below this value; NULL: up to any",
        f"{about}: whether it is missing",
    )
    kinds: tuple[ColumnType | Any, ...] = (feature.type, feature.type, "bool")
    columns = tuple(
        TableColumn(column, kind, "key", text)
        for column, kind, text in zip(interval_columns(name), kinds, texts, strict=True)
    )
    return columns if feature.may_be_missing else columns[:2]


def _positions(path: str, node: BucketsAxis, column_type: ColumnType) -> tuple[int, int]:
    """First and last number of the axis, in the order of numbers."""
    if column_type == "string":
        raise JobError(f"{path}.buckets: expected a feature of numbers, not of text; list values")
    if node.range is None:
        return order_bounds(column_type)
    bounds = [check_value(f"{path}.range", bound, column_type) for bound in node.range]
    if bounds[0] > bounds[1]:
        raise JobError(f"{path}.range: {list(node.range)}: expected the lower bound first")
    if column_type == "float" and np.abs(bounds).max() > np.finfo(np.float32).max:
        raise JobError(f"{path}.range: {list(node.range)}: expected numbers within float32's range")
    low, high = to_order(np.array(bounds, np.float32 if column_type == "float" else np.int64)).tolist()
    return low, high


def _find_starts(path: str, name: str, steps: StepTensors, low: int, high: int) -> np.ndarray:
    """First position of each interval between edges."""
    if not steps.references:
        return np.array([low], np.int64)
    widths = [values.shape[1] for values in steps.values(np.array([low]))]
    try:
        edges = find_edges(lambda at: np.concatenate(steps.values(at), axis=1), low, high, MAX_INTERVALS - 1)
    except TooManyEdgesError as error:
        changing = {steps.references[index] for index in np.repeat(np.arange(len(widths)), widths)[error.columns]}
        names = [output for output, references in steps.of_output.items() if references & changing]
        raise RefusedError(
            f"{path}.buckets: the transformed feature {', '.join(map(repr, names))} is not piecewise constant in"
            f" {name}: it tells more than {MAX_INTERVALS:,} values apart; take that transform from the feature, or give"
            " a step or values in place of buckets"
        ) from error
    return np.concatenate([[low], edges])


def _transformed(
    transform: Any, name: str, values: np.ndarray, types: Mapping[str, ColumnType], example: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The transformed features, each `[num_values, ...]`, for these values and the example of all other features."""
    import tensorflow as tf

    inputs = {name: tf.constant(values)}
    for other, column_type in types.items():
        if other != name:
            column = pa.array([example[other]], ARROW_TYPES[column_type])
            value = graph_column(column, column_type).to_numpy(zero_copy_only=False)
            inputs[other] = tf.repeat(tf.constant(value), len(values))
    return {output: tensor.numpy() for output, tensor in transform(**inputs).items()}


def _is_new(
    steps: StepTensors, starts: np.ndarray, dependencies: Mapping[str, Dependency], at_starts: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Which intervals differ from the one before: in an output of this feature alone, or in what others come from.

    An output of several features may be the same for one value of another feature and differ for the next.
    """
    known = dict(zip(steps.references, steps.values(starts) if steps.references else [], strict=True))
    is_new = np.arange(len(starts)) == 0
    for output, references in steps.of_output.items():
        dependency = dependencies[output]
        alone = dependency.exact and len(dependency.features) == 1
        seen = [at_starts[output]] if alone else [known[reference] for reference in references]
        for values in seen:
            is_new[1:] |= _differ(values[1:], values[:-1])
    return is_new


def _differ(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows differ in any byte, bool `[num_rows]`."""
    rows = len(values)
    if rows == 0:
        return np.zeros(0, bool)
    if values.dtype != object:
        values, others = (np.ascontiguousarray(array).view(np.uint8) for array in (values, others))
    differ: np.ndarray = (values.reshape(rows, -1) != others.reshape(rows, -1)).any(axis=1)
    return differ


def _axis(name: str, feature: Feature, starts: np.ndarray, bounds: tuple[int, int], is_bounded: bool) -> Axis:
    """The axis of the intervals that begin at `starts`; the last ends with the second bound."""
    lows: list[Any] = from_order(starts, feature.type).tolist()
    highs = lows[1:]
    # A lower bound represents its interval; without one, the last number below the upper bound does, or else zero.
    values = list(lows)
    if is_bounded:
        highs += from_order(np.array([bounds[1] + 1]), feature.type).tolist()
    else:
        values[0] = from_order(starts[1:2] - 1, feature.type).item() if len(starts) > 1 else 0
        lows[0] = None
        highs.append(None)
    is_missing = [False] * len(lows)
    if feature.may_be_missing:
        lows, highs, values, is_missing = [*lows, None], [*highs, None], [*values, None], [*is_missing, True]
    arrow_type = ARROW_TYPES[feature.type]
    arrays = [pa.array(lows, arrow_type), pa.array(highs, arrow_type), pa.array(is_missing)]
    names = [column.name for column in describe_columns(name, feature)]
    table = pa.table(arrays[: len(names)], names)
    return Axis(name, "buckets", table, representatives=pa.table({name: pa.array(values, arrow_type)}))
