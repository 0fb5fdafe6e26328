"""State of slices: sums, counts, and that they add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.evaluation import metric_states
from transforms.evaluation.metric_states import Categories, Counts, add_states, sum_by_slice

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 6), st.integers(-100, 100)), max_size=40)


def states_of(table: list[tuple[int, int, int]]) -> list[metric_states.State]:
    slice_ids, categories, numbers = np.array(table, np.int64).reshape(-1, 3).T
    return sum_by_slice({"n": numbers.astype(float), "c": Categories(categories, 7)}, slice_ids, 4)


def plain(state: metric_states.State) -> dict:
    return {"n": metric_states.number(state, "n"), "c": metric_states.counts(state, "c", 7).tolist()}


def test_numbers_are_summed_and_categories_counted_slice_by_slice():
    states = states_of([(0, 1, 10), (2, 1, 5), (0, 1, 1), (0, 6, 0), (2, -1, 7)])
    assert [plain(state) for state in states] == [
        {"n": 11.0, "c": [0, 2, 0, 0, 0, 0, 1]},
        {"n": 0.0, "c": [0] * 7},
        {"n": 12.0, "c": [0, 1, 0, 0, 0, 0, 0]},
        {"n": 0.0, "c": [0] * 7},
    ]


@given(rows, rows)
def test_states_of_two_lots_add_up_to_the_state_of_both(left, right):
    added = [add_states(a, b) for a, b in zip(states_of(left), states_of(right), strict=True)]
    assert [plain(state) for state in added] == [plain(state) for state in states_of(left + right)]


def test_counts_stay_sparse_and_sorted():
    total = Counts(np.array([2, 9_999]), np.array([1, 5])) + Counts(np.array([0, 2]), np.array([7, 1]))
    assert total.ids.tolist() == [0, 2, 9_999]
    assert total.counts.tolist() == [7, 2, 5]


def test_a_column_is_read_as_what_it_is():
    (state, *_) = states_of([(0, 1, 10)])
    with pytest.raises(TypeError, match="'c' is a column of categories"):
        metric_states.number(state, "c")
    with pytest.raises(TypeError, match="'n' is a column of numbers"):
        metric_states.counts(state, "n", 7)
