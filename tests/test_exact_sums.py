"""Sums without rounding, against rational arithmetic, however the values are cut and ordered."""

import math
import random
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from transforms.examples.exact_sums import ExactMoments

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def moments(*parts):
    merged = ExactMoments()
    for part in parts:
        one = ExactMoments()
        one.add(np.array(part, np.float64))
        merged.merge(one)
    return merged


@hypothesis.given(st.lists(FINITE, max_size=40))
@hypothesis.example([5e-324, -5e-324, 1.7976931348623157e308, -0.0])
def test_sums_are_those_of_rational_numbers(values):
    found = moments(values)
    assert found.count == len(values)
    assert Fraction(found.total, 1 << 1127) == sum(map(Fraction, values))
    assert Fraction(found.squares, 1 << 2254) == sum(Fraction(value) ** 2 for value in values)


@hypothesis.given(st.lists(FINITE, min_size=1, max_size=40), st.integers(0, 40), st.randoms(use_true_random=False))
def test_any_cut_and_order_gives_the_same(values, cut, shuffler):
    shuffled = shuffler.sample(values, len(values))
    assert moments(shuffled[:cut], shuffled[cut:]) == moments(values)


def test_mean_and_deviation_are_rounded_once():
    generator = random.Random(0)
    values = [generator.gauss(1e6, 1.0) for _ in range(200_000)]
    found = moments(values[:1], values[1:])
    assert found.mean == math.fsum(values) / len(values)
    assert found.std_dev == pytest.approx(np.std(np.array(values) - 1e6), rel=1e-12)


def test_cancellation_leaves_what_is_small():
    assert moments([1e300, 1.0, -1e300]).mean == 1 / 3
    assert moments([2.0**40, 2.0**40 + 1]).std_dev == 0.5
    assert moments([1.5e308, -1.5e308]).std_dev == 1.5e308
    assert moments([7.0, 7.0, 7.0]).std_dev == 0.0
