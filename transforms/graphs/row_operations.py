"""What is known of an operation's output, from what is known of its inputs. What is not here mixes everything."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from transforms.graphs import elementwise, row_reductions
from transforms.graphs.graph_values import BATCH, Dim, Shape, Value, broadcast, reshape, rows_value

Rule = Callable[[Any, Sequence[Value]], Value | None]

READS_STATE = frozenset(
    {"Identity", "LookupTableFindV2", "LookupTableSizeV2", "NoOp", "ReadVariableOp", "ResourceGather", "VariableShape"}
)
MAKES_HANDLES = frozenset({"HashTableV2", "VarHandleOp"})
_MAX_CONTENT = 64
_INTEGERS = {3, 9}  # DT_INT32, DT_INT64
_EXACT_CASTS = {1, 2, 3, 9, 10}  # DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64, DT_BOOL; others may saturate or wrap


def apply_rule(node: Any, inputs: Sequence[Value]) -> Value | None:
    """What is known of the outputs of `node`, a NodeDef, from its inputs; None if nothing is."""
    rule = _RULES.get(node.op)
    if rule is None or any(value.is_mixed for value in inputs):
        return None
    if any(value.is_handle for value in inputs) and node.op not in READS_STATE:
        return None
    return rule(node, inputs)


def constant_value(array: Any) -> Value:
    """A constant, as a numpy array."""
    small = array.dtype.kind in "iu" and array.ndim <= 1 and array.size <= _MAX_CONTENT
    return Value(shape=array.shape, content=tuple(array.reshape(-1).tolist()) if small else None)


def _const(node: Any, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    return constant_value(tf.make_ndarray(node.attr["value"].tensor))


def _handle(node: Any, inputs: Sequence[Value]) -> Value:
    return Value(is_handle=True)


def _same(node: Any, inputs: Sequence[Value]) -> Value:
    return inputs[0]


def _elementwise(exact: bool) -> Rule:
    def rule(node: Any, inputs: Sequence[Value]) -> Value | None:
        shapes = [value.shape for value in inputs if value.shape is not None]
        if any(value.is_size for value in inputs):
            return None
        if len(shapes) < len(inputs):
            return Value() if all(value.is_constant for value in inputs) else None
        shape = broadcast(shapes)
        return None if shape is None else rows_value(inputs, shape, exact or node.attr["T"].type in _INTEGERS)

    return rule


def _cast(node: Any, inputs: Sequence[Value]) -> Value | None:
    kinds = {node.attr["SrcT"].type, node.attr["DstT"].type}
    if inputs[0].content is not None and kinds <= _INTEGERS:
        return inputs[0]
    return _elementwise(kinds <= _EXACT_CASTS)(node, inputs)


def _select(node: Any, inputs: Sequence[Value]) -> Value | None:
    # The old Select takes whole rows where its condition is a vector.
    if len({value.shape for value in inputs}) > 1 and any(value.has_rows for value in inputs):
        return None
    return _elementwise(True)(node, inputs)


def _shape(node: Any, inputs: Sequence[Value]) -> Value | None:
    shape = inputs[0].shape
    return None if shape is None else Value(shape=(len(shape),), content=shape)


def _rank(node: Any, inputs: Sequence[Value]) -> Value | None:
    shape = inputs[0].shape
    return None if shape is None else Value(shape=(), content=(len(shape),))


def _size(node: Any, inputs: Sequence[Value]) -> Value | None:
    shape = inputs[0].shape
    if shape is None:
        return None
    wide = [dim for dim in shape if dim != 1]
    if BATCH not in shape:
        return Value(shape=(), content=(math.prod(dim for dim in shape if dim != BATCH),))
    return Value(shape=(), content=(BATCH,)) if wide == [BATCH] else None


def _reshape(node: Any, inputs: Sequence[Value]) -> Value | None:
    value, target = inputs[0], inputs[1].content
    if target is None or value.shape is None:
        return Value() if value.is_constant and inputs[1].is_constant else None
    shape = reshape(value.shape, target)
    if shape is None:
        return None
    return _of_content(value, shape) if value.content is not None else rows_value([value], shape)


def _of_content(value: Value, shape: Shape) -> Value | None:
    return (
        Value(shape=shape, content=value.content)
        if len(shape) <= 1
        else (None if value.is_size else Value(shape=shape))
    )


def _expand_dims(node: Any, inputs: Sequence[Value]) -> Value | None:
    value, axis = inputs[0], _int(inputs[1])
    if axis is None or value.shape is None:
        return Value() if value.is_constant and inputs[1].is_constant else None
    at = axis if axis >= 0 else axis + len(value.shape) + 1
    shape = (*value.shape[:at], 1, *value.shape[at:])
    return _of_content(value, shape) if value.content is not None else rows_value([value], shape)


def _squeeze(node: Any, inputs: Sequence[Value]) -> Value | None:
    value, axes = inputs[0], node.attr["squeeze_dims"].list.i
    if value.shape is None or not axes or value.is_size:  # without axes, a batch of one row loses its own
        return Value() if value.is_constant else None
    gone = {axis % len(value.shape) for axis in axes}
    if any(value.shape[axis] != 1 for axis in gone):
        return None
    return rows_value([value], tuple(dim for axis, dim in enumerate(value.shape) if axis not in gone))


def _pack(node: Any, inputs: Sequence[Value]) -> Value | None:
    axis, shapes = node.attr["axis"].i, {value.shape for value in inputs}
    contents = [value.content for value in inputs]
    if shapes == {()} and all(content is not None for content in contents):
        return Value(shape=(len(inputs),), content=tuple(dim for content in contents for dim in content or ()))
    (shape, *others) = shapes
    if any(value.is_size for value in inputs) or shape is None or others:
        return Value() if all(value.is_constant for value in inputs) else None
    at = axis if axis >= 0 else axis + len(shape) + 1
    return rows_value(inputs, (*shape[:at], len(inputs), *shape[at:]))


def _unpack(node: Any, inputs: Sequence[Value]) -> Value | None:
    shape = inputs[0].shape
    if shape is None or inputs[0].is_size:
        return None
    at = node.attr["axis"].i % len(shape)
    return None if shape[at] == BATCH else rows_value(inputs, (*shape[:at], *shape[at + 1 :]))


def _concat(node: Any, inputs: Sequence[Value]) -> Value | None:
    *parts, axis_value = inputs
    axis, contents = _int(axis_value), [part.content for part in parts]
    if axis == 0 and all(content is not None for content in contents):
        content = tuple(dim for content in contents for dim in content or ())
        return Value(shape=(len(content),), content=content)
    shapes = [part.shape for part in parts if part.shape is not None]
    if axis is None or len(shapes) < len(parts) or any(part.is_size for part in parts):
        return Value() if all(part.is_constant for part in inputs) else None
    at = axis % len(shapes[0])
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
    dims = [shape[at] for shape in shapes if len(shape) == len(shapes[0])]
    if len(rest) > 1 or BATCH in dims or len(dims) < len(shapes):
        return None
    total = sum(dim for dim in dims if dim != BATCH)
    return rows_value(parts, (*shapes[0][:at], total, *shapes[0][at + 1 :]))


def _strided_slice(node: Any, inputs: Sequence[Value]) -> Value | None:
    value, bounds = inputs[0], [part.content for part in inputs[1:]]
    if value.shape is None or any(content is None or BATCH in content for content in bounds):
        return Value() if all(part.is_constant for part in inputs) else None
    if node.attr["ellipsis_mask"].i:
        return None
    shape: list[Dim] = []
    axis, taken = 0, slice(None)
    for index, (begin, end, stride) in enumerate(zip(*(content or () for content in bounds), strict=True)):
        begins, ends, new, shrinks = (
            node.attr[f"{name}_mask"].i >> index & 1 for name in ("begin", "end", "new_axis", "shrink_axis")
        )
        if new:
            shape.append(1)
            continue
        dim = value.shape[axis]
        axis += 1
        taken = slice(None if begins else begin, None if ends else end, stride)
        if dim == BATCH:
            if taken != slice(None, None, 1) or shrinks:
                return None
            shape.append(dim)
        elif shrinks:
            taken = slice(begin, begin + 1 or None)
        else:
            shape.append(len(range(*taken.indices(int(dim)))))
    shape += value.shape[axis:]
    if value.content is not None and len(value.shape) == 1 and axis == 1 and len(shape) <= 1:
        return Value(shape=tuple(shape), content=value.content[taken])
    return None if value.is_size else rows_value([value], tuple(shape))


def _fill(node: Any, inputs: Sequence[Value]) -> Value | None:
    shape, value = inputs[0].content, inputs[1]
    return rows_value([value], shape) if shape is not None and value.is_constant else None


def _broadcast_to(node: Any, inputs: Sequence[Value]) -> Value | None:
    value, target = inputs[0], inputs[1].content
    if target is None or value.shape is None or value.is_size:
        return None
    return rows_value([value], target) if broadcast([value.shape, target]) == target else None


def _gather(node: Any, inputs: Sequence[Value]) -> Value | None:
    table, indices = inputs[:2]
    along = _int(inputs[2]) if len(inputs) > 2 else 0
    if along != 0 or node.attr["batch_dims"].i or not (table.is_constant or table.is_handle):
        return None
    if table.shape is None or indices.shape is None or indices.is_size:
        return Value() if table.is_constant and indices.is_constant else None
    return rows_value([indices], (*indices.shape, *table.shape[1:]))


def _one_hot(node: Any, inputs: Sequence[Value]) -> Value | None:
    indices, depth = inputs[0], _int(inputs[1])
    if depth is None or indices.shape is None or node.attr["axis"].i != -1 or indices.is_size:
        return None
    return rows_value(inputs, (*indices.shape, depth)) if all(part.is_constant for part in inputs[1:]) else None


def _find(node: Any, inputs: Sequence[Value]) -> Value | None:
    _, keys, default = inputs
    return rows_value([keys], keys.shape) if keys.shape is not None and default.shape == () else None


def _read(node: Any, inputs: Sequence[Value]) -> Value:
    return Value(shape=inputs[0].shape)


def _table_size(node: Any, inputs: Sequence[Value]) -> Value:
    return Value(shape=())


def _search(node: Any, inputs: Sequence[Value]) -> Value | None:
    edges, values = inputs
    return rows_value([values], (1, BATCH)) if edges.is_constant and values.shape == (1, BATCH) else None


def _int(value: Value) -> int | None:
    dim: Dim | None = value.content[0] if value.content is not None and len(value.content) == 1 else None
    return None if dim == BATCH else dim


def _of_constants(node: Any, inputs: Sequence[Value]) -> Value | None:
    return Value() if all(value.is_constant for value in inputs) else None


_RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.EXACT, _elementwise(True)),
    **dict.fromkeys(elementwise.INEXACT, _elementwise(False)),
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape"), _same),
    **dict.fromkeys(MAKES_HANDLES, _handle),
    **dict.fromkeys(("Range", "Transpose"), _of_constants),
    **dict.fromkeys(row_reductions.ALONG_LAST, row_reductions.along_last),
    **dict.fromkeys(row_reductions.REDUCTIONS, row_reductions.reduction),
    **dict.fromkeys(("LowerBound", "UpperBound"), _search),
    **dict.fromkeys(("GatherV2", "ResourceGather"), _gather),
    "BiasAdd": row_reductions.bias_addition,
    "BroadcastTo": _broadcast_to,
    "Cast": _cast,
    "ConcatV2": _concat,
    "Const": _const,
    "ExpandDims": _expand_dims,
    "Fill": _fill,
    "LookupTableFindV2": _find,
    "LookupTableSizeV2": _table_size,
    "MatMul": row_reductions.matrix_product,
    "OneHot": _one_hot,
    "Pack": _pack,
    "Rank": _rank,
    "ReadVariableOp": _read,
    "Reshape": _reshape,
    "Select": _select,
    "Shape": _shape,
    "Size": _size,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Unpack": _unpack,
}
