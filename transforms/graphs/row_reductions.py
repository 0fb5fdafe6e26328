"""Operations that combine the values of each row, but no two rows: products with weights, sums, maxima along a row.

None is exact: the order in which a row's values are added may differ with the size of the batch.
"""

from collections.abc import Sequence
from typing import Any

from transforms.graphs.graph_values import BATCH, Dim, Value, broadcast, rows_value

REDUCTIONS = frozenset({"All", "Any", "ArgMax", "ArgMin", "Max", "Mean", "Min", "Prod", "Sum"})
ALONG_LAST = frozenset({"LogSoftmax", "Softmax"})


def matrix_product(node: Any, inputs: Sequence[Value]) -> Value | None:
    """`MatMul` of rows `[batch, k]` with a constant matrix."""
    left, right = inputs[:2]
    if left.is_constant and right.is_constant:
        return Value()
    if left.shape is None or len(left.shape) != 2 or left.shape[0] != BATCH or not right.is_constant:
        return None
    if node.attr["transpose_a"].b or right.shape is None:
        return None
    return rows_value([left], (BATCH, right.shape[0 if node.attr["transpose_b"].b else 1]), exact=False)


def bias_addition(node: Any, inputs: Sequence[Value]) -> Value | None:
    """`BiasAdd` of a constant to the last dimension."""
    value, bias = inputs
    if value.shape is None or bias.shape is None or not bias.is_constant or node.attr["data_format"].s == b"NCHW":
        return Value() if value.is_constant and bias.is_constant else None
    shape = broadcast([value.shape, bias.shape])
    return rows_value([value], shape) if shape == value.shape else None


def along_last(node: Any, inputs: Sequence[Value]) -> Value | None:
    """`Softmax` over the last dimension."""
    value = inputs[0]
    if value.shape is None or value.is_size or value.shape[-1:] == (BATCH,):
        return Value() if value.is_constant else None
    return rows_value([value], value.shape, exact=False)


def reduction(node: Any, inputs: Sequence[Value]) -> Value | None:
    """A reduction over dimensions that are not the batch's; of a shape vector, only what needs no arithmetic."""
    value, axes = inputs[:2]
    if value.shape is None or axes.content is None or value.is_size:
        return Value() if all(part.is_constant for part in inputs) else None
    if BATCH in axes.content:
        return None
    gone = {int(axis) % len(value.shape) for axis in axes.content}
    if any(value.shape[axis] == BATCH for axis in gone):
        return None
    shape: list[Dim] = []
    for axis, dim in enumerate(value.shape):
        if axis not in gone:
            shape.append(dim)
        elif node.attr["keep_dims"].b:
            shape.append(1)
    return rows_value([value], tuple(shape), exact=False)
