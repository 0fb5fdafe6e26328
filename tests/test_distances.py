"""Distances: TFDV's own cases, hand-computed ones, and what chance makes of two samples of one distribution."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from tensorflow_metadata.proto.v0.statistics_pb2 import Histogram

from transforms.monitoring.distances import (
    CHANCE,
    jensen_shannon_divergence,
    l_infinity_distance,
    largest_change_of_difference,
    noise_of_divergence,
    noise_of_shares,
    quantile_edges,
)


def histogram(*buckets, num_nan=0):
    made = Histogram(num_nan=num_nan)
    for low, high, count in buckets:
        made.buckets.add(low_value=low, high_value=high, sample_count=count)
    return made


def points(values):
    distinct, counts = np.unique(values, return_counts=True)
    return histogram(*((value, value, count) for value, count in zip(distinct, counts, strict=True)))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"hello": 0.1, "world": 0.9}, {"hello": 0.3, "world": 0.7}, (0.2, "world")),
        ({"b": 0.9, "c": 0.1}, {"a": 0.3, "b": 0.7}, (0.3, "a")),
        ({"a": 3, "b": 7}, {"b": 900, "c": 100}, (0.3, "a")),
        ({"a": 5}, {"a": 1}, (0.0, "a")),
    ],
    ids=["tfdv: normal", "tfdv: missing in both", "tfdv: flipped, as counts", "the same"],
)
def test_l_infinity_distance(a, b, expected):
    distance, value = l_infinity_distance(a, b)
    assert (distance, value) == (pytest.approx(expected[0]), expected[1])


def test_an_empty_sample_has_no_distance():
    with pytest.raises(ValueError, match="empty"):
        l_infinity_distance({}, {"a": 1})
    with pytest.raises(ValueError, match="empty"):
        jensen_shannon_divergence(histogram(), histogram((0, 1, 1)))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (histogram((1, 2, 2), (2, 3, 2)), histogram((2, 4, 2), (4, 6, 2)), 0.65563906222),
        (histogram((0, 1, 2), (1, 2, 2)), histogram((3, 4, 2), (4, 6, 2)), 1.0),
        (histogram((1, 1, 4)), histogram((2, 4, 2), (4, 6, 2)), 1.0),
        (histogram((1, 2, 3), num_nan=1), histogram((1, 2, 4)), 0.13792538096),
        (histogram((1, 2.5, 3), num_nan=1), histogram((1, 2.5, 3), num_nan=1), 0.0),
        (histogram((1, 2, 3), (2, 3, 1)), histogram((1, 2, 30), (2, 3, 10)), 0.0),
        # Halves against quarters of two points, by hand: (log2(0.5 / 0.375) + log2(0.5 / 0.625)) / 4 + …
        (histogram((1, 1, 2), (2, 2, 2)), histogram((1, 1, 1), (2, 2, 3)), 0.0487949406953985),
    ],
    ids=[
        "tfdv: other buckets",
        "tfdv: no overlap",
        "tfdv: one bucket",
        "tfdv: NaN",
        "tfdv: the same",
        "in proportion",
        "by hand",
    ],
)
def test_jensen_shannon_divergence(a, b, expected):
    assert jensen_shannon_divergence(a, b) == pytest.approx(expected, abs=1e-9)
    assert jensen_shannon_divergence(b, a) == pytest.approx(expected, abs=1e-9)


@hypothesis.given(
    st.lists(st.integers(0, 20), min_size=1, max_size=50), st.lists(st.integers(0, 20), min_size=1, max_size=50)
)
def test_fewer_cells_tell_no_more_apart(a, b):
    edges = quantile_edges(points(a))
    coarse = jensen_shannon_divergence(points(a), points(b), edges)
    fine = jensen_shannon_divergence(points(a), points(b))
    assert 0 <= coarse <= fine + 1e-9 <= 1 + 1e-9
    assert jensen_shannon_divergence(points(a), points(a), edges) == 0


def test_quantile_edges_stand_twice_where_a_value_holds_several():
    assert quantile_edges(points([0] * 60 + list(range(1, 41))), 5) == [0, 0, 20]
    assert quantile_edges(histogram((0, 1, 5), (1, 3, 5)), 4) == pytest.approx([0.5, 1, 2])
    assert quantile_edges(histogram((7, 7, 5)), 10) == [7, 7]


def test_a_spike_has_a_cell_of_its_own():
    """Most rows are 0 in both; what differs is behind it."""
    a, b = points([0] * 80 + [1] * 20), points([0] * 80 + [2] * 20)
    assert jensen_shannon_divergence(a, b, quantile_edges(a, 5)) == 0.0  # [0, 0]: cells below, at, and above 0
    assert jensen_shannon_divergence(a, b, [0, 0, 1, 1]) == pytest.approx(0.2)


def test_a_swap_of_groups_shows_in_the_difference_of_their_means():
    here = {"boy": (5000, 5.4), "girl": (5000, 5.6), "unknown": (10_000, 5.5), "rare": (29, 9.0)}
    there = {"boy": (5000, 5.6), "girl": (5000, 5.4), "unknown": (10_000, 5.5), "rare": (29, 1.0)}
    change, noise, *pair = largest_change_of_difference(here, there)
    assert (change, sorted(pair)) == (pytest.approx(0.4), ["boy", "girl"])  # too few rows tell nothing of the rare ones
    assert noise == pytest.approx(math.sqrt(2 * math.log(3 / CHANCE)) * math.sqrt(4 / 5000))
    assert largest_change_of_difference(here, {"boy": (5000, 5.6)}) is None


def test_means_of_groups_stay_below_the_noise():
    generator = np.random.default_rng(5)
    beyond = []
    for _ in range(300):
        samples = []
        for rows in (400, 900):
            groups, values = generator.integers(0, 6, rows), generator.normal(size=rows)
            samples.append({str(g): (int((groups == g).sum()), float(values[groups == g].mean())) for g in range(6)})
        change, noise, *_ = largest_change_of_difference(*samples)
        beyond.append(change / noise)
    assert 0.3 < max(beyond) < 1


@pytest.mark.parametrize("rows", [(40, 60), (3000, 1000)])
def test_chance_stays_below_the_noise(rows):
    generator = np.random.default_rng(3)
    shares, divergences = [], []
    for _ in range(400):
        a, b = (generator.integers(0, 4, count) for count in rows)
        counts = [dict(zip(*map(np.ndarray.tolist, np.unique(s, return_counts=True)), strict=True)) for s in (a, b)]
        shares.append(l_infinity_distance(*[{str(k): v for k, v in c.items()} for c in counts])[0])
        divergences.append(jensen_shannon_divergence(points(a), points(b)))
    assert max(shares) < noise_of_shares(*rows) < 4 * np.median(shares) + 0.2
    assert max(divergences) < noise_of_divergence(4, *rows) < 30 * np.median(divergences)
