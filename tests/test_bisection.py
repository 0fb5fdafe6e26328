"""Bisection: the order has every number once, and every edge is found, however near or far from the others."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from transforms.space.bisection import TooManyEdgesError, find_edges, from_order, order_bounds, to_order

FLOAT32 = st.floats(width=32, allow_nan=False, allow_subnormal=False)
LOWEST, HIGHEST = order_bounds("int")


@hypothesis.given(st.lists(FLOAT32, min_size=1))
def test_float32s_keep_their_order_and_come_back(values):
    values = np.float32(values)
    positions = to_order(values)
    assert from_order(positions, "float").tolist() == values.tolist()
    assert np.argsort(positions, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()


@hypothesis.given(FLOAT32)
def test_neighbours_in_the_order_are_neighbouring_normal_float32s(value):
    position = to_order(np.float32([value]))
    hypothesis.assume(position[0] < order_bounds("float")[1])
    after = from_order(position + 1, "float")[0]
    expected = np.nextafter(np.float32(value), np.float32(np.inf))
    smallest = np.finfo(np.float32).smallest_normal
    while 0 < abs(expected) < smallest:
        expected = np.float32(0.0 if expected < 0 else smallest)
    assert after == expected


def test_bounds():
    assert from_order(np.array(order_bounds("float")), "float").tolist() == [-np.inf, np.inf]
    assert (LOWEST, HIGHEST) == (-(2**63) + 1, 2**63 - 1)
    assert from_order(np.array([LOWEST, HIGHEST]), "int").tolist() == [LOWEST, HIGHEST]


@hypothesis.given(st.sets(st.integers(LOWEST + 1, HIGHEST), max_size=20), st.booleans())
def test_every_edge_is_found(expected, is_falling):
    expected = sorted(expected)

    def probe(positions):
        steps = np.searchsorted(np.array(expected, np.int64), positions, side="right").astype(np.int64)
        return (-steps if is_falling else steps).reshape(-1, 1).view(np.uint8)

    assert find_edges(probe, LOWEST, HIGHEST, 20).tolist() == expected
    if expected:
        low, high = expected[0], expected[-1]
        assert find_edges(probe, low, high, 20).tolist() == expected[1:]


def test_all_open_intervals_are_probed_in_one_call():
    calls = []

    def probe(positions):
        calls.append(len(positions))
        return (positions // 1000).reshape(-1, 1).view(np.uint8)

    assert find_edges(probe, 0, 2**20, 2000).tolist() == list(range(1000, 2**20, 1000))
    assert len(calls) <= 21


def test_too_many_edges_name_what_changes():
    def probe(positions):
        return np.stack([positions >= 7, positions % 256, positions < 0], axis=1).astype(np.uint8)

    with pytest.raises(TooManyEdgesError) as caught:
        find_edges(probe, 0, 255, 100)
    assert caught.value.columns.tolist() == [1]
