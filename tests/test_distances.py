"""Distances: TFDV's own cases, hand-computed ones, and what chance makes of two samples of one distribution."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from tensorflow_metadata.proto.v0.statistics_pb2 import Histogram

from transforms.monitoring.distances import (
    CHANCE,
    Group,
    jensen_shannon_divergence,
    l_infinity_distance,
    largest_change_of_difference,
    noise_of_divergence,
    noise_of_shares,
    noise_of_tolerance,
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


def groups_of(**groups):
    return {name: Group(*group) for name, group in groups.items()}


def test_a_swap_of_groups_shows_in_the_difference_of_their_means():
    here = groups_of(boy=(5000, 5.4, 1), girl=(5000, 5.6, 1), unknown=(10_000, 5.5, 1), rare=(29, 9.0, 1))
    there = groups_of(boy=(5000, 5.6, 1), girl=(5000, 5.4, 1), unknown=(10_000, 5.5, 1), rare=(29, 1.0, 1))
    change, noise, *pair = largest_change_of_difference(here, there)
    assert (change, sorted(pair)) == (pytest.approx(0.4), ["boy", "girl"])  # too few rows tell nothing of the rare ones
    assert noise == pytest.approx(math.sqrt(2 * math.log(3 / CHANCE)) * math.sqrt(4 / 5000))
    assert largest_change_of_difference(here, groups_of(boy=(5000, 5.6, 1))) is None


def test_a_group_is_as_uncertain_as_it_is_itself():
    quiet, noisy = (groups_of(a=(5000, 5.0, deviation), b=(5000, 5.0, deviation)) for deviation in (0.1, 3.0))
    assert [largest_change_of_difference(sample, sample)[1] for sample in (quiet, noisy)] == pytest.approx(
        [deviation * math.sqrt(2 * math.log(1 / CHANCE)) * math.sqrt(4 / 5000) for deviation in (0.1, 3.0)], rel=0.15
    )


def binary(generator, rows, shares, rates):
    """Groups of a label that is 0 or 1, each at its own rate."""
    counts = generator.multinomial(rows, shares)
    means = generator.binomial(counts, rates) / np.maximum(counts, 1)
    overall = (counts * means).sum() / rows
    return means, counts, np.sqrt(means * (1 - means)), math.sqrt(overall * (1 - overall))


def normal(generator, rows, shares, deviations):
    """Groups of a label of one mean, each with its own deviation."""
    counts = generator.multinomial(rows, shares)
    means = generator.normal(size=len(shares)) * deviations / np.sqrt(counts)
    spreads = deviations * np.sqrt(generator.chisquare(counts - 1) / counts)
    return means, counts, spreads, math.sqrt((counts * (spreads**2 + means**2)).sum() / rows)


@pytest.mark.parametrize(
    ("draw", "shares", "label"),
    [
        (binary, [0.02, 0.49, 0.49], [0.5, 0.01, 0.01]),
        (binary, [0.002] * 10 + [0.98], [0.01] * 10 + [0.05]),
        (normal, [0.02, 0.49, 0.49], [10.0, 1.0, 1.0]),
        (normal, [1 / 6] * 6, [1.0] * 6),
    ],
    ids=["a rare word at another rate", "small groups with few events", "one noisy group", "alike"],
)
def test_means_of_groups_stay_below_the_noise(draw, shares, label):
    """Of two samples of one distribution, with nothing tolerated beside chance."""
    generator = np.random.default_rng(5)
    beyond = []
    for _ in range(2000):
        samples = []
        for _ in range(2):
            means, counts, spreads, deviation = draw(generator, 20_000, np.array(shares), np.array(label))
            columns = zip(counts.tolist(), (means / deviation).tolist(), (spreads / deviation).tolist(), strict=True)
            samples.append({str(index): Group(*group) for index, group in enumerate(columns)})
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


@pytest.mark.parametrize(("share", "rows"), [(0.01, 50), (0.4, 20), (0.4, 50), (0.1, 1000), (0.001, 100_000)])
def test_a_tolerated_share_stays_within_its_noise(share, rows):
    found = np.random.default_rng(1).binomial(rows, share, 100_000) / rows
    beyond = (found > share + noise_of_tolerance(share, rows)).mean()
    assert beyond <= 2 * CHANCE
    assert (found > share + noise_of_tolerance(share, rows) / 3).mean() > CHANCE  # nor much more than it takes
