"""Which TensorFlow operations keep the order of a number: their output only rises or only falls with it.

None of them makes NaN of a number or of an infinity. An operation that is not here may still be in a graph: what
follows it is then told apart by what goes into it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from transforms.graphs.inlining import Operation

# They hand values on, in a place that does not depend on the values.
COPIES = frozenset(
    {
        *("BroadcastTo", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "PreventGradient", "Reshape"),
        *("Snapshot", "Squeeze", "StopGradient", "StridedSlice", "Tile", "Transpose"),
    }
)
ROUNDS = frozenset({"Ceil", "Floor", "Relu", "Relu6", "Rint", "Round", "Sign"})
COMPARES = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual"})
EQUATES = frozenset({"Equal", "NotEqual"})
SELECTS = frozenset({"Select", "SelectV2"})
# Their output tells how many values there are, not which.
COUNTS = frozenset({"OnesLike", "Rank", "Shape", "Size", "ZerosLike"})
# What a constant may be computed by; each has one output, or a list of them.
FOLDS = frozenset(
    {
        *(COPIES | ROUNDS | COMPARES | EQUATES | SELECTS | COUNTS),
        *("Abs", "AddV2", "Cast", "ConcatV2", "Const", "Div", "DivNoNan", "Exp", "Fill", "Log", "LogicalNot", "Max"),
        *("Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "Pack", "Range", "RealDiv", "Rsqrt", "Sqrt", "Square"),
        *("Sub", "Sum"),
    }
)
_FLOATS, _INTS, _BOOL = frozenset({1, 2}), {3: 31, 9: 63}, 10  # DataType: float32, float64; bits of int32, int64; bool
NUMBERS = frozenset({*_FLOATS, *_INTS})

Values = Callable[[], np.ndarray | None]
"""The values of an input, or None if nobody knows them before the graph runs."""


def keeps_order(operation: Operation, at: int, others: Sequence[Values], ends: Callable[[], np.ndarray]) -> bool:
    """Whether the output only rises or only falls, value by value, with one input, whose values do so with the feature.

    Args:
        at: which input that is; the others depend on no feature.
        others: the other inputs, in order.
        ends: values of the input at the lowest and the highest number of the feature.
    """
    kind, is_float = operation.kind, operation.number_type in _FLOATS
    if kind in COMPARES:
        return True
    if kind in ("Maximum", "Minimum"):
        return _holds(others, lambda value: not np.isnan(value).any())
    if kind in ("Add", "AddV2", "Sub"):
        return is_float and _holds(others, lambda value: np.isfinite(value).all())
    if kind == "Mul":
        return is_float and _holds(others, _is_scale)
    if kind in ("LowerBound", "UpperBound"):
        return at == 1 and _holds(others, _is_sorted)
    if at != 0:
        return False
    match kind:
        case "Bucketize":
            return bool(_is_sorted(np.array(operation.node.attr["boundaries"].list.f)))
        case "Cast":
            return _casts_in_order(operation, ends)
        case "ClipByValue":
            return _holds(others, lambda value: not np.isnan(value).any())
        case "Div" | "RealDiv":
            return is_float and _holds(others, _is_scale)
        case "FloorDiv":
            return _holds(others, _is_scale if is_float else lambda value: (value > 0).all())
        case "Neg":
            return is_float
    return kind in COPIES | ROUNDS


def _holds(others: Sequence[Values], condition: Callable[[np.ndarray], bool | np.bool_]) -> bool:
    values = [other() for other in others]
    return all(value is not None and bool(condition(value)) for value in values)


def _is_scale(value: np.ndarray) -> bool:
    return bool((np.isfinite(value) & (value != 0)).all())


def _is_sorted(value: np.ndarray) -> bool:
    return not np.isnan(value).any() and bool((np.diff(value, axis=-1) >= 0).all())


def _casts_in_order(operation: Operation, ends: Callable[[], np.ndarray]) -> bool:
    source, target = (operation.node.attr[name].type for name in ("SrcT", "DstT"))
    if target in _FLOATS or source == target:
        return source in NUMBERS | {_BOOL}
    if target not in _INTS or source not in NUMBERS | {_BOOL}:
        return False
    # A number that does not fit becomes any other one; between two that fit, all do.
    return source == _BOOL or bool((np.abs(ends().astype(np.float64)) < 2.0 ** _INTS[target]).all())
