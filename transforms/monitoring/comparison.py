"""Compares two samples of examples, column by column, by their statistics alone."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics, FeatureNameStatistics, Histogram

from configs.monitoring import Comparison, OnBreach
from transforms.examples.column_summaries import EXACT_WORDS
from transforms.monitoring.distances import (
    Group,
    jensen_shannon_divergence,
    l_infinity_distance,
    largest_change_of_difference,
    noise_of_divergence,
    noise_of_shares,
    quantile_edges,
)
from transforms.monitoring.readings import (
    common_of,
    distribution_of,
    label_moments_of,
    missing_share,
    rows_of,
    value_counts_of,
)

Measure = Literal["l_infinity", "jensen_shannon", "missing", "gone", "label_means"]

GONE_SHARE = 0.01
"""A value that had this share of the rows, and has none any more, is a breach."""
_GONE_CHANCE = 1e-6
# Above, the number of different words is an estimate, and may be a few per cent too low.
_FEW_WORDS = EXACT_WORDS * 0.95


@dataclasses.dataclass(frozen=True)
class FeatureDistance:
    """How far a column is from another sample of it.

    Attributes:
        measure: `l_infinity` of categories and `jensen_shannon` of numbers; `missing`, the change of the share of
            missing values; `gone`, the share that values had there which have none here; `label_means`, how much more
            or less apart the label's means of two words are, in its standard deviations.
        threshold: the job's, and what chance adds for so few rows.
        about: what changed, in words.
    """

    feature: str
    measure: Measure
    distance: float
    threshold: float
    on_breach: OnBreach
    breached: bool
    about: str


def compare_examples(
    here: DatasetFeatureStatistics,
    there: DatasetFeatureStatistics,
    columns: Sequence[str],
    categorical: Collection[str],
    comparison: Comparison,
    names: tuple[str, str],
    label: str | None = None,
) -> tuple[FeatureDistance, ...]:
    """Compares columns that both have; a measure without rows on either side is left out.

    Args:
        here: the sample in question.
        there: the one that it is held against.
        columns: to compare.
        categorical: of numbers, those whose values are categories.
        comparison: thresholds, and what a breach does.
        names: what to call the two in words, such as `tonight` and `on 2026-01-05`.
        label: column of numbers whose means are compared by the words and categories of the others; there is one of
            examples only.
    """
    mine = {stats.path.step[0]: stats for stats in here.features}
    theirs = {stats.path.step[0]: stats for stats in there.features}
    deviations = tuple(sample[label].num_stats.std_dev if label in sample else 0.0 for sample in (mine, theirs))
    return tuple(
        distance
        for name in columns
        if name in mine and name in theirs
        for distance in (
            *_distances(name, mine[name], theirs[name], name in categorical, comparison, names),
            *_label_means(name, mine[name], theirs[name], name in categorical, deviations, comparison, names),
        )
    )


def same_examples(
    a: statistics_pb2.DatasetFeatureStatisticsList, b: statistics_pb2.DatasetFeatureStatisticsList
) -> bool:
    """Whether two nights' statistics are of the very same rows, as far as statistics can tell.

    Means and deviations are exact sums, so that other rows of a like kind differ in them; what a sketch estimates, and
    so may depend on how rows were bundled, is left aside.
    """
    return any(dataset.num_examples for dataset in a.datasets) and _exact_part(a) == _exact_part(b)


def _exact_part(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
) -> statistics_pb2.DatasetFeatureStatisticsList:
    exact = statistics_pb2.DatasetFeatureStatisticsList()
    exact.CopyFrom(statistics)
    for dataset in exact.datasets:
        for stats in dataset.features:
            stats.ClearField("custom_stats")
            if stats.HasField("num_stats"):
                stats.num_stats.ClearField("histograms")
                stats.num_stats.ClearField("median")
            else:
                counts = value_counts_of(stats) or {}
                stats.string_stats.ClearField("rank_histogram")
                stats.string_stats.ClearField("top_values")
                # Sums say little of words. Few words are counted exactly, and these counts say much.
                for value, count in sorted(counts.items()) if stats.string_stats.unique <= _FEW_WORDS else ():
                    stats.string_stats.top_values.add(value=value, frequency=count)
    return exact


def _distances(
    name: str,
    here: FeatureNameStatistics,
    there: FeatureNameStatistics,
    is_category: bool,
    comparison: Comparison,
    names: tuple[str, str],
) -> Iterator[FeatureDistance]:
    threshold, on_breach = comparison.threshold_of(name), comparison.on_breach
    now, then = names

    def distance(measure: Measure, value: float, noise: float, about: str) -> FeatureDistance:
        limit = min(threshold + noise, 1.0)
        return FeatureDistance(name, measure, value, limit, on_breach, value > limit, about)

    total_here, total_there = rows_of(here), rows_of(there)
    if not total_here or not total_there:
        return
    share_here, share_there = missing_share(here), missing_share(there)
    about = f"missing in {share_here:.1%} of the rows {now}, {share_there:.1%} {then}"
    yield distance("missing", abs(share_here - share_there), noise_of_shares(total_here, total_there), about)
    rows_here, rows_there = common_of(here).num_non_missing, common_of(there).num_non_missing
    if not rows_here or not rows_there:
        return
    are_numbers = here.HasField("num_stats") and there.HasField("num_stats")
    counts_here, counts_there = value_counts_of(here), value_counts_of(there)
    if (is_category or not are_numbers) and counts_here and counts_there:
        value, word = l_infinity_distance(counts_here, counts_there)
        part_here = counts_here.get(word, 0) / sum(counts_here.values())
        part_there = counts_there.get(word, 0) / sum(counts_there.values())
        about = f"{word!r} in {part_here:.1%} of the rows {now}, {part_there:.1%} {then}"
        yield distance("l_infinity", value, noise_of_shares(rows_here, rows_there), about)
        yield from _gone(name, counts_here, counts_there, comparison, names)
    elif are_numbers:
        a, b = distribution_of(here), distribution_of(there)
        edges = quantile_edges(b)
        noise = noise_of_divergence(len(edges) + 1, rows_here, rows_there)
        yield distance("jensen_shannon", jensen_shannon_divergence(a, b, edges), noise, _course(a, b, names))


def _gone(
    name: str,
    here: Mapping[str, float],
    there: Mapping[str, float],
    comparison: Comparison,
    names: tuple[str, str],
) -> Iterator[FeatureDistance]:
    """Values that had a share and have none; it takes so many rows that chance does not leave them all there."""
    rows_here, rows_there = sum(here.values()), sum(there.values())
    # Of one distribution, all `count` rows of a value lie there by chance of this base to their number.
    chance = math.log(rows_there / (rows_here + rows_there))
    enough = max(math.log(_GONE_CHANCE) / chance, GONE_SHARE * rows_there)
    gone = {value: count for value, count in there.items() if value not in here and count >= enough}
    share = sum(gone.values()) / rows_there
    words = ", ".join(f"{value!r} ({count / rows_there:.1%} of the rows {names[1]})" for value, count in gone.items())
    breached = bool(gone) and comparison.threshold_of(name) < 1
    about = f"no row {names[0]} has {words}" if gone else "no value is gone"
    yield FeatureDistance(name, "gone", share, GONE_SHARE, comparison.on_breach, breached, about)


def _label_means(
    name: str,
    here: FeatureNameStatistics,
    there: FeatureNameStatistics,
    is_category: bool,
    deviations: tuple[float, ...],
    comparison: Comparison,
    names: tuple[str, str],
) -> Iterator[FeatureDistance]:
    if not all(deviations) or not (is_category or here.HasField("string_stats")):
        return
    mine, theirs = _groups(here, deviations[0]), _groups(there, deviations[1])
    found = largest_change_of_difference(mine, theirs)
    if found is None:
        return
    change, noise, first, second = found
    limit = comparison.threshold_of(name) + noise
    here_apart, there_apart = (
        (groups[first].mean - groups[second].mean) * deviation
        for groups, deviation in zip((mine, theirs), deviations, strict=True)
    )
    apart = f"{here_apart:.4g} {names[0]}, {there_apart:.4g} {names[1]}"
    about = f"from {second!r} to {first!r} the label's mean rises by {apart}"
    is_breach = change > limit and comparison.threshold_of(name) < 1
    yield FeatureDistance(name, "label_means", change, min(limit, 1.0), comparison.on_breach, is_breach, about)


def _groups(stats: FeatureNameStatistics, deviation: float) -> dict[str, Group]:
    counts = value_counts_of(stats) or {}
    return {
        value: Group(counts.get(value, 0.0), mean / deviation, spread / deviation)
        for value, (mean, spread) in label_moments_of(stats).items()
    }


def _course(here: Histogram, there: Histogram, names: tuple[str, str]) -> str:
    """Middle and outer values of both, which show another unit at a glance."""
    texts = []
    for histogram, name in zip((here, there), names, strict=True):
        edges = quantile_edges(histogram, 20)
        low, middle, high = edges[0], edges[len(edges) // 2], edges[-1]
        texts.append(f"{low:.4g} to {high:.4g} around {middle:.4g} {name}")
    return ", ".join(texts)
