"""Finds where monotone functions of a number change, exactly: bisection over the order of the numbers that there are.

Neighbours in this order are neighbouring float32s or int64s: an edge is found to the last bit, not to a tolerance.
"""

from collections.abc import Callable

import numpy as np

from configs.features import MISSING_IN_GRAPH, ColumnType

# What is nearer to zero than the smallest normal number has no place of its own: TensorFlow may take it for zero.
_SMALLEST_NORMAL = int(np.finfo(np.float32).smallest_normal.view(np.int32))
_INFINITY = int(np.float32(np.inf).view(np.int32)) - _SMALLEST_NORMAL + 1

Probe = Callable[[np.ndarray], np.ndarray]


class TooManyEdgesError(Exception):
    """There are more edges than asked for.

    Attributes:
        columns: of the probe, that change more often than any other.
    """

    def __init__(self, columns: np.ndarray):
        super().__init__(f"columns {columns.tolist()}")
        self.columns = columns


def to_order(values: np.ndarray) -> np.ndarray:
    """Positions, int64, of numbers in their order: float32, but NaN, or int64."""
    if values.dtype != np.float32:
        return values.astype(np.int64)
    bits = np.abs(values).view(np.int32).astype(np.int64)
    return np.sign(values).astype(np.int64) * np.maximum(bits - _SMALLEST_NORMAL + 1, 0)


def from_order(positions: np.ndarray, column_type: ColumnType) -> np.ndarray:
    """The numbers at these positions, int64: float32 or int64."""
    if column_type == "int":
        return positions
    bits = np.where(positions == 0, 0, np.abs(positions) + _SMALLEST_NORMAL - 1).astype(np.int32)
    return np.copysign(bits.view(np.float32), np.where(positions < 0, -1, 1).astype(np.float32))


def order_bounds(column_type: ColumnType) -> tuple[int, int]:
    """First and last position: of the infinities, which stand for what float32 cannot hold, or of the int64s."""
    return (MISSING_IN_GRAPH["int"] + 1, 2**63 - 1) if column_type == "int" else (-_INFINITY, _INFINITY)


def find_edges(probe: Probe, low: int, high: int, most: int) -> np.ndarray:
    """Every position in `(low, high]` at which the probe differs from the position before, ascending, int64.

    Args:
        probe: from positions, int64 `[num_positions]`, to bytes, uint8 `[num_positions, num_columns]`, each column a
            part of a value that only rises or only falls with the position. It is called about as often as the
            range can be halved, each time for all intervals that still are open.
        most: edges.

    Raises:
        TooManyEdgesError: there are more.
    """
    lefts, rights = np.array([low], np.int64), np.array([high], np.int64)
    at_left, at_right = np.split(probe(np.array([low, high], np.int64)), 2)
    edges: list[np.ndarray] = []
    while True:
        # Monotone, so equal ends have nothing between them.
        is_open = (at_left != at_right).any(axis=1)
        is_edge = is_open & (rights == lefts + 1)
        edges.append(rights[is_edge])
        is_open &= ~is_edge
        lefts, rights, at_left, at_right = lefts[is_open], rights[is_open], at_left[is_open], at_right[is_open]
        if sum(map(len, edges)) + len(lefts) > most:  # each open interval has an edge at least
            changes = (at_left != at_right).sum(axis=0)
            raise TooManyEdgesError(np.flatnonzero(changes == changes.max()))
        if len(lefts) == 0:
            return np.sort(np.concatenate(edges))
        middles = (lefts >> 1) + (rights >> 1) + (lefts & rights & 1)  # the sum itself may have more than 64 bits
        at_middle = probe(middles)
        lefts, rights = np.concatenate([lefts, middles]), np.concatenate([middles, rights])
        at_left, at_right = np.concatenate([at_left, at_middle]), np.concatenate([at_middle, at_right])
