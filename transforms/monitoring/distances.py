"""Distances between two samples of a column, as TensorFlow Data Validation defines them, and what chance makes of them.

The formulas are those of TFDV's `anomalies/metrics.cc`. It leaves missing values out of both, and so do these.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow_metadata.proto.v0.statistics_pb2 import Histogram

CHANCE = 1e-4
"""About how often two samples of one distribution come out further apart than `noise_...` allows, at the most."""

MIN_GROUP_ROWS = 30
"""Below, the mean of a group is no normal variable."""

_BUCKETS = 10
# A share differs by less than so many of its standard deviations, but for CHANCE: a normal variable, both sides.
_DEVIATIONS = 3.9


def l_infinity_distance(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, str]:
    """The largest difference of a value's share, and that value.

    Args:
        a: rows by value; shares are of their sum.
        b: the other sample; a value that one of them lacks has no share there.

    Raises:
        ValueError: a sample is empty.
    """
    total_a, total_b = sum(a.values()), sum(b.values())
    if total_a <= 0 or total_b <= 0:
        raise ValueError("an empty sample has no shares")
    differences = {value: abs(a.get(value, 0) / total_a - b.get(value, 0) / total_b) for value in [*a, *b]}
    value = max(differences, key=lambda value: (differences[value], value))
    return differences[value], value


def jensen_shannon_divergence(a: Histogram, b: Histogram, edges: Sequence[float] | None = None) -> float:
    """The approximate Jensen-Shannon divergence of two histograms, in bits, from 0 to 1.

    It is the mean of the Kullback-Leibler divergences of each from their average, over cells that both are cut into; a
    bucket that several cells divide counts as evenly filled. Buckets without width have cells of their own, and so has
    NaN.

    Args:
        a: buckets with finite bounds, in order.
        b: of the other sample.
        edges: between cells, sorted, an edge that stands twice being a cell too. By default every bound of a bucket, as
            in TFDV.

    Raises:
        ValueError: a histogram is empty.
    """
    cells = bucket_bounds(a, b) if edges is None else edges
    p, q = np.append(_masses(a, cells), a.num_nan), np.append(_masses(b, cells), b.num_nan)
    if p.sum() <= 0 or q.sum() <= 0:
        raise ValueError("an empty histogram has no shares")
    p, q = p / p.sum(), q / q.sum()
    average = (p + q) / 2
    return min(max((_relative_entropy(p, average) + _relative_entropy(q, average)) / 2, 0.0), 1.0)


def bucket_bounds(a: Histogram, b: Histogram) -> list[float]:
    """Every bound of a bucket in either histogram once, and twice where there is a bucket without width."""
    buckets = [*a.buckets, *b.buckets]
    points = {bucket.low_value for bucket in buckets if bucket.low_value == bucket.high_value}
    bounds = {bound for bucket in buckets for bound in (bucket.low_value, bucket.high_value)}
    return sorted([*bounds, *points])


def quantile_edges(histogram: Histogram, buckets: int = _BUCKETS) -> list[float]:
    """Inner edges of so many buckets of about equally many rows; a value that holds several of them stands twice."""
    counts = np.array([bucket.sample_count for bucket in histogram.buckets])
    reached = np.concatenate([[0.0], np.cumsum(counts)])
    edges: list[float] = []
    for rank in np.arange(1, buckets) / buckets * reached[-1]:
        index = min(int(np.searchsorted(reached, rank * (1 - 1e-12), side="left")), len(counts)) - 1
        bucket = histogram.buckets[max(index, 0)]
        within = (rank - reached[max(index, 0)]) / counts[max(index, 0)]
        edge = bucket.low_value + within * (bucket.high_value - bucket.low_value)
        if edges.count(edge) < 2:
            edges.append(edge)
    return edges


@dataclasses.dataclass(frozen=True)
class Group:
    """Values of a group, their unit being the standard deviation of all values of the sample."""

    rows: float
    mean: float
    deviation: float


def largest_change_of_difference(
    here: Mapping[str, Group], there: Mapping[str, Group]
) -> tuple[float, float, str, str] | None:
    """How much more, or less, apart the means of two groups are in one sample than in the other.

    A swap of two groups' names shows in it however many rows they have, and shuffled values do.

    Args:
        here: by name.
        there: of the other sample; a group counts that has at least `MIN_GROUP_ROWS` in both.

    Returns:
        The change, at most 1; what chance makes of it for so many rows and pairs; and the two groups. It is the pair
        whose change is most beyond chance; None if there is no pair.
    """
    groups = [
        name for name, group in here.items() if name in there and min(group.rows, there[name].rows) >= MIN_GROUP_ROWS
    ]
    if len(groups) < 2:
        return None
    changes = np.array([here[name].mean - there[name].mean for name in groups])
    variances = np.array([_variance_of_change(here[name], there[name]) for name in groups])
    pairs = len(groups) * (len(groups) - 1) / 2
    apart = np.abs(changes[:, None] - changes[None, :])
    # A normal variable is beyond z in less than exp(-z**2 / 2) of all cases, both sides.
    noise = math.sqrt(2 * math.log(pairs / CHANCE)) * np.sqrt(variances[:, None] + variances[None, :])
    first, second = np.unravel_index(
        np.argmax(np.where(np.eye(len(groups), dtype=bool), -np.inf, apart - noise)), apart.shape
    )
    return min(float(apart[first, second]), 1.0), float(noise[first, second]), groups[first], groups[second]


def _variance_of_change(here: Group, there: Group) -> float:
    """Of the difference of two means.

    Few rows may all be alike by chance; so many rows of the sample's own deviation stand in for what they do not show.
    """
    squares = here.rows * here.deviation**2 + there.rows * there.deviation**2 + MIN_GROUP_ROWS
    return squares / (here.rows + there.rows + MIN_GROUP_ROWS) * (1 / here.rows + 1 / there.rows)


def noise_of_divergence(cells: int, rows_a: float, rows_b: float) -> float:
    """What the divergence of two samples of one distribution exceeds in about `CHANCE` of all cases, at the most.

    Near 0 it is a chi-squared variable of `cells - 1` degrees of freedom times (1/rows_a + 1/rows_b) / (8 ln 2), whose
    tail Laurent and Massart bound (2000, lemma 1).
    """
    freedom, tail = max(cells - 1, 1), math.log(1 / CHANCE)
    chi_squared = freedom + 2 * math.sqrt(freedom * tail) + 2 * tail
    return chi_squared * (1 / rows_a + 1 / rows_b) / (8 * math.log(2))


def noise_of_shares(rows_a: float, rows_b: float) -> float:
    """What the difference of a share in two samples of one distribution exceeds in about `CHANCE` of all cases."""
    return _DEVIATIONS / 2 * math.sqrt(1 / rows_a + 1 / rows_b)  # a share of a half deviates most


def noise_of_tolerance(share: float, rows: float) -> float:
    """What a sample's share exceeds one of all rows by in about `CHANCE` of all cases, at the most (Bernstein 1927)."""
    tail = math.log(1 / CHANCE)
    few = tail / (3 * rows)
    return few + math.sqrt(few**2 + 2 * share * (1 - share) * tail / rows)


def _masses(histogram: Histogram, edges: Sequence[float]) -> np.ndarray:
    """Rows in each cell, `[len(edges) + 1]`: a cell has its lower edge; the second of equal edges begins behind it."""
    low = np.array([bucket.low_value for bucket in histogram.buckets])
    high = np.array([bucket.high_value for bucket in histogram.buckets])
    counts = np.array([bucket.sample_count for bucket in histogram.buckets])
    width = np.where(high > low, high - low, 1.0)
    reached = [0.0]
    for index, edge in enumerate(edges):
        behind = index > 0 and edges[index - 1] == edge
        point = low <= edge if behind else low < edge
        reached.append(float((counts * np.where(high > low, np.clip((edge - low) / width, 0, 1), point)).sum()))
    return np.diff([*reached, float(counts.sum())])


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())
