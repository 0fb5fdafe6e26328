"""Reads statistics back: what a column's counts, shares and distribution are, whichever kind of column it is."""

from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics, FeatureNameStatistics, Histogram

DISTRIBUTION = "distribution"
"""Custom statistic of numbers: every value with its count, as buckets without width, where they are few; else
quantiles."""

OUTSIDE = "outside"
"""Custom statistic of numbers: how many are beyond the bucket's `low_value` and `high_value`."""

LABEL_MEANS = "label_means"
"""Custom statistic of few words or whole numbers: the label's mean where the column has that value, as the bucket's
`sample_count`."""

LABEL_DEVIATIONS = "label_deviations"
"""Custom statistic beside it: the label's standard deviation there."""


def dataset_of(statistics: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> DatasetFeatureStatistics:
    """The dataset of that name; an empty one if there is none."""
    found = [dataset for dataset in statistics.datasets if dataset.name == name]
    return found[0] if found else DatasetFeatureStatistics(name=name)


def common_of(stats: FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    """Counts of rows with and without a value."""
    return stats.string_stats.common_stats if stats.HasField("string_stats") else stats.num_stats.common_stats


def rows_of(stats: FeatureNameStatistics) -> int:
    """Rows with and without a value."""
    common = common_of(stats)
    return int(common.num_non_missing + common.num_missing)


def missing_share(stats: FeatureNameStatistics) -> float:
    """Share of the rows without a value; 0 without rows."""
    rows = rows_of(stats)
    return float(common_of(stats).num_missing / rows) if rows else 0.0


def value_counts_of(stats: FeatureNameStatistics) -> dict[str, float] | None:
    """Rows by value, as text; of words the most frequent ones if they are very many; None of numbers that are many."""
    if stats.HasField("string_stats"):
        return {bucket.label: bucket.sample_count for bucket in stats.string_stats.rank_histogram.buckets}
    buckets = distribution_of(stats).buckets
    if any(bucket.low_value != bucket.high_value for bucket in buckets):
        return None
    return {number_text(bucket.low_value): bucket.sample_count for bucket in buckets}


def number_text(number: float) -> str:
    """What a number is called among values."""
    return f"{number:.17g}"


def distribution_of(stats: FeatureNameStatistics) -> Histogram:
    """The finest histogram of a column of numbers; of statistics by another tool, its quantiles."""
    for custom in stats.custom_stats:
        if custom.name == DISTRIBUTION:
            return custom.histogram
    for histogram in stats.num_stats.histograms:
        if histogram.type == Histogram.QUANTILES:
            return histogram
    return Histogram()


def rows_outside(stats: FeatureNameStatistics, low: float, high: float) -> float:
    """Rows below `low` or above `high`: all of them where they were counted for these bounds, or values are few.

    Else it is what lies outside for certain: whole buckets of the distribution, and at least the extremes.
    """
    for custom in stats.custom_stats:
        for bucket in custom.histogram.buckets if custom.name == OUTSIDE else ():
            if (bucket.low_value, bucket.high_value) == (low, high):
                return bucket.sample_count
    buckets = distribution_of(stats).buckets
    whole = sum(bucket.sample_count for bucket in buckets if bucket.high_value < low or bucket.low_value > high)
    return max(whole, float(stats.num_stats.min < low) + float(stats.num_stats.max > high))


def label_moments_of(stats: FeatureNameStatistics) -> dict[str, tuple[float, float]]:
    """The label's mean and deviation by value; empty where they were not asked for, or the values are many."""
    found = {
        custom.name: {bucket.label: bucket.sample_count for bucket in custom.rank_histogram.buckets}
        for custom in stats.custom_stats
        if custom.name in (LABEL_MEANS, LABEL_DEVIATIONS)
    }
    deviations = found.get(LABEL_DEVIATIONS, {})
    means = found.get(LABEL_MEANS, {})
    return {value: (mean, deviations[value]) for value, mean in means.items() if value in deviations}
