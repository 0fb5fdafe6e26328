"""Summable state: what a metric needs to know of some rows, such that the states of two lots of rows add up.

A row's contributions are columns of numbers, which are summed, and columns of categories, which are counted. The counts
are kept sparse: a slice of few rows has a small state however many categories there are.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Categories:
    """One category for each row.

    Attributes:
        ids: `[num_rows]` integers below `size`; a negative one is not counted.
        size: how many categories there are.
    """

    ids: np.ndarray
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """How many rows each category has, for the categories that have any.

    Attributes:
        ids: of the categories, increasing.
        counts: rows of each.
    """

    ids: np.ndarray
    counts: np.ndarray

    def __add__(self, other: "Counts") -> "Counts":
        ids, places = np.unique(np.concatenate([self.ids, other.ids]), return_inverse=True)
        counts = np.zeros(len(ids), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Counts(ids, counts)

    def dense(self, size: int) -> np.ndarray:
        """The counts of categories 0 to `size` - 1, `[size]`."""
        counts = np.zeros(size, np.int64)
        counts[self.ids] = self.counts
        return counts


Contributions = Mapping[str, np.ndarray | Categories]
State = dict[str, float | Counts]


def sum_by_slice(contributions: Contributions, slice_ids: np.ndarray, num_slices: int) -> list[State]:
    """Adds up the rows' contributions, slice by slice.

    Args:
        contributions: by name: numbers `[num_rows]`, or categories.
        slice_ids: `[num_rows]`, from 0 to `num_slices` - 1.

    Returns:
        The state of each slice, in the order of the ids.
    """
    states: list[State] = [{} for _ in range(num_slices)]
    for name, column in contributions.items():
        sums = (
            _count_by_slice(column, slice_ids, num_slices)
            if isinstance(column, Categories)
            else np.bincount(slice_ids, weights=column, minlength=num_slices).tolist()
        )
        for state, total in zip(states, sums, strict=True):
            state[name] = total
    return states


def add_states(left: State, right: State) -> State:
    """The state of both lots of rows. Counts are exact; sums of numbers are so up to the rounding of float64."""
    return {name: total + right[name] for name, total in left.items()}  # type: ignore[operator]


def number(state: State, name: str) -> float:
    """The sum of the column of numbers `name`."""
    total = state[name]
    if isinstance(total, Counts):
        raise TypeError(f"{name!r} is a column of categories")
    return total


def counts(state: State, name: str, size: int) -> np.ndarray:
    """The counts of the column of categories `name`, `[size]`."""
    total = state[name]
    if not isinstance(total, Counts):
        raise TypeError(f"{name!r} is a column of numbers")
    return total.dense(size)


def _count_by_slice(column: Categories, slice_ids: np.ndarray, num_slices: int) -> list[Counts]:
    counted = column.ids >= 0
    pairs = slice_ids[counted].astype(np.int64) * column.size + column.ids[counted]
    pairs, rows = np.unique(pairs, return_counts=True)
    ends = np.searchsorted(pairs, np.arange(num_slices + 1) * column.size)
    return [
        Counts(pairs[start:end] - slice_id * column.size, rows[start:end])
        for slice_id, (start, end) in enumerate(itertools.pairwise(ends))
    ]
