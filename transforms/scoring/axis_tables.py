"""Transformed features as tables over the axes that they depend on, computed once instead of once for each point.

A transformed feature is tabulated if it comes row by row from features of few combinations of axis rows. The others, as
one that sorts the batch, are computed block by block, as the serving signature does.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from configs.features import ColumnType
from transforms.graphs.dependencies import Dependency
from transforms.scoring.serving import raw_columns
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace

MAX_COMBINATIONS = 1 << 20
MAX_TABLE_BYTES = 1 << 28
STRING_BYTES = 64  # of a bytes object, about


@dataclasses.dataclass(frozen=True)
class AxisTable:
    """A transformed feature for every combination of some axes' rows.

    Attributes:
        axes: indices of the axes, ascending; none for a constant.
        shape: rows of each.
        values: `[num_combinations, ...]`, in row-major order.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    values: np.ndarray


def axes_of(dependency: Dependency, space: InputSpace) -> tuple[int, ...]:
    """Indices of the axes that give values to what an output depends on, ascending."""
    features = set(dependency.features)
    return tuple(index for index, axis in enumerate(space.axes) if features & set(axis.inputs.column_names))


def tabulated_axes(
    transform: Any, dependencies: Mapping[str, Dependency], space: InputSpace
) -> dict[str, tuple[int, ...]]:
    """The outputs to tabulate, with the axes that they depend on: those with a table that is small beside the space.

    Args:
        transform: the model's `transform` signature.
        dependencies: of the outputs in question.
    """
    found = {}
    for name, dependency in dependencies.items():
        axes = axes_of(dependency, space)
        combinations = math.prod(space.shape[axis] for axis in axes)
        is_small = combinations <= BLOCK_ROWS or 4 * combinations <= min(4 * MAX_COMBINATIONS, space.cardinality)
        fits = combinations * _row_bytes(transform.structured_outputs[name]) <= MAX_TABLE_BYTES
        if dependency.by_row and is_small and fits:
            found[name] = axes
    return found


def _row_bytes(spec: Any) -> int:
    """Bytes of an output's row; where a dimension is not known, of one value."""
    return (spec.shape[1:].num_elements() or 1) * (spec.dtype.size or STRING_BYTES)


def tabulate(
    transform: Any, axes_by_output: Mapping[str, tuple[int, ...]], space: InputSpace, features: Mapping[str, ColumnType]
) -> dict[str, AxisTable]:
    """Computes tables, all those over the same axes together.

    Args:
        transform: the model's `transform` signature.
        axes_by_output: of `tabulated_axes`.
    """
    tables = {}
    for axes in sorted(set(axes_by_output.values())):
        names = [name for name, found in axes_by_output.items() if found == axes]
        parts = list(_transformed(transform, names, axes, space, features))
        shape = tuple(space.shape[axis] for axis in axes)
        for name in names:
            values = np.concatenate([part[name] for part in parts])[: math.prod(shape)]
            tables[name] = AxisTable(axes, shape, values)
    return tables


def _transformed(
    transform: Any, names: Collection[str], axes: Sequence[int], space: InputSpace, features: Mapping[str, ColumnType]
) -> Iterator[dict[str, np.ndarray]]:
    """These outputs for the combinations of the axes' rows, and the first row of every other axis.

    In batches of exactly a block's rows, the last filled up from the first: a logarithm at the end of a batch of some
    other size may have another last bit.
    """
    import tensorflow as tf

    inputs = raw_columns(space, features)
    shape = [space.shape[axis] for axis in axes]
    combinations = math.prod(shape)
    for start in range(0, combinations, BLOCK_ROWS):
        positions = np.arange(start, start + BLOCK_ROWS) % combinations
        rows = dict(zip(axes, np.unravel_index(positions, shape), strict=True)) if axes else {}
        batch = {
            name: tf.gather(values, rows[axis]) if axis in rows else tf.fill([BLOCK_ROWS], values[0])
            for name, (axis, values) in inputs.items()
        }
        found = transform(**batch)
        yield {name: found[name].numpy() for name in names}
