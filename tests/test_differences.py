"""Differences of two backends' predictions: known ones to the last bit, and laws for all float32 numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ForetableError
from configs.outputs import Output
from transforms.scoring.differences import column_differences, ulps

FLOATS = st.floats(width=32)
PRICE, ROOMS = Output(name="p", type="float", columns=("price",)), Output(name="r", type="int", columns=("rooms",))


def difference(output, one, other, dtype):
    (found,) = column_differences({output.name: np.array(one, dtype)}, {output.name: np.array(other, dtype)}, [output])
    return found


class TestUlps:
    @given(st.floats(-(2.0**126), 2.0**126, width=32), st.integers(0, 300))
    def test_steps_are_counted(self, value, steps):
        there = np.float32(value)
        for _ in range(steps):
            there = np.nextafter(there, np.float32(math.inf))
        assert ulps(np.array([value], np.float32), np.array([there], np.float32)) == steps

    @given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1))
    def test_both_ways_are_as_long_and_no_way_is_none(self, pairs):
        one, other = (np.array(values, np.float32) for values in zip(*pairs, strict=True))
        assert (ulps(one, other) == ulps(other, one)).all()
        assert (ulps(one, one) == 0).all()

    def test_across_zero(self):
        tiny = np.float32(1e-45)
        assert ulps(np.array([tiny]), np.array([-tiny])) == 2
        assert ulps(np.array([0.0], np.float32), np.array([-0.0], np.float32)) == 0


class TestFloats:
    def test_where_it_is_largest(self):
        one, other = np.float32([1.0, 100.0, 0.001]), np.float32([1.0, 100.5, 0.0010001])
        found = difference(PRICE, one, other, np.float32)
        assert (found.column, found.unequal, found.row, found.one) == ("price", 2, 1, 100.0)
        assert found.absolute == 0.5
        assert found.relative == 0.5 / 100.5
        assert found.ulp == 65536  # of 2^-17, in [64, 128)

    def test_no_number_on_one_side_only(self):
        found = difference(PRICE, [1, math.nan], [1, 2], np.float32)
        assert (found.unequal, found.absolute, found.relative, found.row) == (1, math.inf, math.inf, 1)
        assert not found.is_within(1e9)

    def test_the_same_is_the_same_whatever_it_is(self):
        values = [0.0, math.nan, math.inf, -math.inf, 1e-45]
        found = difference(PRICE, values, values, np.float32)
        assert (found.unequal, found.absolute, found.relative, found.ulp, found.row) == (0, 0, 0, 0, None)
        assert found.is_within(0.0)

    @given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(1, 8))
    def test_a_few_steps_are_within_a_millionth(self, value, steps):
        there = np.array([value], np.float32)
        for _ in range(steps):
            there = np.nextafter(there, np.float32(math.inf))
        found = difference(PRICE, [value], there, np.float32)
        assert (found.unequal, found.ulp) == (1, steps)
        assert found.is_within(1e-6)
        assert not found.is_within(0.0)


class TestOthers:
    def test_integers_as_far_apart_as_they_can_be(self):
        found = difference(ROOMS, [2**63 - 1, 5], [-(2**63), 5], np.int64)
        assert (found.unequal, found.absolute, found.ulp, found.row) == (1, float(2**64 - 1), None, 0)

    def test_integers_that_are_one_double(self):
        found = difference(ROOMS, [2**53], [2**53 + 1], np.int64)
        assert (found.unequal, found.absolute) == (1, 1.0)

    def test_text_is_the_same_or_not(self):
        grade = Output(name="g", type="string", columns=("grade",))
        found = difference(grade, ["a", "hoch ü".encode(), b"c"], ["a", b"hoch", b"d"], object)
        assert (found.unequal, found.relative, found.row, found.one) == (2, None, 1, "hoch ü")
        assert not found.is_within(1e9)

    def test_several_columns_are_told_apart_and_an_array_is_one(self):
        shares = Output(name="s", type="float", columns=("low", "high"))
        array = Output(name="s", type="float[]", columns=("all",))
        one, other = np.float32([[0.25, 0.75], [0.5, 0.5]]), np.float32([[0.25, 0.75], [0.5, 0.25]])
        low, high = column_differences({"s": one}, {"s": other}, [shares])
        assert (low.column, low.unequal, high.column, high.unequal, high.row) == ("low", 0, "high", 1, 1)
        (both,) = column_differences({"s": one}, {"s": other}, [array])
        assert (both.column, both.unequal, both.one, both.relative) == ("all", 1, [0.5, 0.5], 0.5)

    def test_another_shape(self):
        with pytest.raises(ForetableError, match=r"output 'p' has the shapes \[2\] and \[3\]"):
            column_differences({"p": np.zeros(2)}, {"p": np.zeros(3)}, [PRICE])
