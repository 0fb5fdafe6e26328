"""What is known of a tensor in a TensorFlow graph without running it: its inputs, its shape, and where its rows are.

A tensor has rows if it holds one group of values for each row of the batch, and each group comes from the same row of
its inputs alone. Whatever cannot be shown to be so is mixed: it may depend on every input, on every row, and on their
number.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

BATCH: Final = "batch"
Dim = int | Literal["batch"]
Shape = tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of one tensor.

    Attributes:
        inputs: raw features that it depends on.
        shape: its shape, None where a constant's is not known. A tensor with rows has `BATCH` in it once, and nothing
            but ones before: its values lie row after row.
        content: the values of a small integer scalar or vector, such as a shape.
        is_exact: a row's bits are the same in any batch, at any position of it.
        is_handle: a variable or a table, whose shape is that of the variable.
        is_mixed: nothing is known; `inputs` are all of them.
    """

    inputs: frozenset[str] = frozenset()
    shape: Shape | None = None
    content: Shape | None = None
    is_exact: bool = True
    is_handle: bool = False
    is_mixed: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether it holds a group of values for each row of the batch."""
        return self.shape is not None and BATCH in self.shape

    @property
    def is_size(self) -> bool:
        """Whether it depends on the number of rows, as a shape does."""
        return self.content is not None and BATCH in self.content

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every batch."""
        return not (self.has_rows or self.is_size or self.is_handle or self.is_mixed)


def rows_value(parts: Iterable[Value], shape: Shape, exact: bool = True) -> Value | None:
    """A tensor computed row by row from `parts`; None if its shape does not keep rows together."""
    parts = tuple(parts)
    inputs = frozenset[str]().union(*(part.inputs for part in parts))
    if BATCH not in shape:
        return None if inputs else Value(shape=shape)
    if not keeps_rows(shape):
        return None
    return Value(inputs, shape, is_exact=exact and all(part.is_exact for part in parts))


def keeps_rows(shape: Sequence[Dim]) -> bool:
    """Whether a tensor of this shape holds its values row after row."""
    before = shape[: shape.index(BATCH)]
    return shape.count(BATCH) == 1 and all(dim == 1 for dim in before)


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """The shape that these broadcast to at every batch size, or None: a batch may have k rows by chance."""
    rank = max(len(shape) for shape in shapes)
    result: list[Dim] = []
    for dims in zip(*((1,) * (rank - len(shape)) + tuple(shape) for shape in shapes), strict=True):
        wide = {dim for dim in dims if dim != 1}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def reshape(shape: Shape, target: Shape) -> Shape | None:
    """The shape that `tf.reshape` to `target` gives, or None if it is not the same at every batch size."""
    values = _row_size(shape)
    known = _row_size(tuple(dim for dim in target if dim != -1))
    if target.count(-1) == 0:
        fits = values == known and (BATCH in shape) == (BATCH in target)
        return target if fits else None
    if target.count(-1) > 1 or known == 0:
        return None
    wild: Dim
    if BATCH in target or BATCH not in shape:
        if (BATCH in target and BATCH not in shape) or values % known:
            return None
        wild = values // known
    elif values == known:
        wild = BATCH
    else:
        return None
    return tuple(wild if dim == -1 else dim for dim in target)


def _row_size(shape: Shape) -> int:
    return math.prod(dim for dim in shape if dim != BATCH)
