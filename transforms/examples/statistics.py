"""Statistics of examples by split, in tensorflow_metadata's protos, filled as TensorFlow Data Validation fills them.

The mathematics is in the columns' summaries; Beam adds nothing but the distribution. Beside TFDV's own fields each
column of numbers has a custom statistic `distribution`, and `outside`, which counts what is beyond expected bounds;
each of few words or whole numbers has `label_means` and `label_deviations`, the label's for each of them. Of these
`transforms.monitoring` measures distances.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics, Histogram

from transforms.examples.column_summaries import LabelSummary, NumericSummary, SplitSummary, StringSummary
from transforms.files import create_atomically
from transforms.monitoring.readings import DISTRIBUTION, LABEL_DEVIATIONS, LABEL_MEANS, OUTSIDE, number_text

SPLITS = ("train", "eval")
# TFDV's defaults: num_top_values, num_rank_histogram_buckets, num_histogram_buckets.
_TOP_VALUES = 20
_RANKS = 1000
_BUCKETS = 10
_FINE_QUANTILES = 1000
_DISTRIBUTION_BUCKETS = 100


def dataset_statistics(
    splits: dict[str, SplitSummary], names: tuple[str, ...] = SPLITS
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics with a dataset for each name, also for one without rows."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    for name in names:
        summary = splits.get(name, SplitSummary())
        dataset = statistics.datasets.add(name=name, num_examples=summary.rows)
        for column, columns_summary in summary.columns.items():
            stats = feature_statistics(column, columns_summary)
            if labels := summary.labels.get(column):
                _add_label_moments(stats, labels)
            dataset.features.append(stats)
    return statistics


def feature_statistics(name: str, summary: NumericSummary | StringSummary) -> FeatureNameStatistics:
    """Statistics of one column."""
    common = statistics_pb2.CommonStatistics(
        num_non_missing=summary.count,
        num_missing=summary.missing,
        min_num_values=min(summary.count, 1),
        max_num_values=min(summary.count, 1),
        avg_num_values=min(summary.count, 1),
        tot_num_values=summary.count,
    )
    if summary.count:
        ones = np.ones(_BUCKETS + 1)
        common.num_values_histogram.CopyFrom(_equal_buckets(ones, summary.count))
    feature = FeatureNameStatistics()
    feature.path.step.append(name)
    if isinstance(summary, StringSummary):
        feature.type = FeatureNameStatistics.STRING
        feature.string_stats.CopyFrom(_string_statistics(summary))
        feature.string_stats.common_stats.CopyFrom(common)
        return feature
    feature.type = FeatureNameStatistics.INT if summary.is_int else FeatureNameStatistics.FLOAT
    if summary.bounds is not None:
        outside = feature.custom_stats.add(name=OUTSIDE).histogram
        outside.buckets.add(
            low_value=summary.bounds[0], high_value=summary.bounds[1], sample_count=float(summary.outside)
        )
    if summary.count:
        feature.num_stats.CopyFrom(_numeric_statistics(summary))
        feature.custom_stats.add(name=DISTRIBUTION, histogram=_distribution(summary))
    feature.num_stats.common_stats.CopyFrom(common)
    return feature


def _add_label_moments(stats: FeatureNameStatistics, labels: LabelSummary) -> None:
    """The label's mean and deviation for each value, in their order, as the count of a bucket of that label."""
    if labels.moments:
        means = stats.custom_stats.add(name=LABEL_MEANS).rank_histogram
        deviations = stats.custom_stats.add(name=LABEL_DEVIATIONS).rank_histogram
        for rank, (value, moments) in enumerate(sorted(labels.moments.items())):
            if moments.count:
                name = value if isinstance(value, str) else number_text(value)
                means.buckets.add(low_rank=rank, high_rank=rank, label=name, sample_count=moments.mean)
                deviations.buckets.add(low_rank=rank, high_rank=rank, label=name, sample_count=moments.std_dev)


def _numeric_statistics(summary: NumericSummary) -> statistics_pb2.NumericStatistics:
    return statistics_pb2.NumericStatistics(
        mean=summary.moments.mean,
        std_dev=summary.moments.std_dev,
        num_zeros=summary.zeros,
        min=summary.minimum,
        median=float(summary.quantiles(2)[1]),
        max=summary.maximum,
        histograms=[_standard_histogram(summary), _equal_buckets(summary.quantiles(_BUCKETS), summary.count)],
    )


def _standard_histogram(summary: NumericSummary) -> Histogram:
    """Buckets of equal width, each without its upper edge but for the last; one bucket if there is one value."""
    if summary.minimum == summary.maximum:
        return _histogram(Histogram.STANDARD, [summary.minimum, summary.maximum], [summary.count])
    edges = np.linspace(summary.minimum, summary.maximum, _BUCKETS + 1)
    if summary.value_counts is None:
        fine = summary.quantiles(_FINE_QUANTILES)
        below = np.searchsorted(fine, edges, side="left") / len(fine) * summary.count
        below[0], below[-1] = 0.0, summary.count
        return _histogram(Histogram.STANDARD, edges, np.diff(below))
    values, counts = list(summary.value_counts), list(summary.value_counts.values())
    return _histogram(Histogram.STANDARD, edges, np.histogram(values, edges, weights=counts)[0])


def _distribution(summary: NumericSummary) -> Histogram:
    if summary.value_counts is None:
        return _equal_buckets(summary.quantiles(_DISTRIBUTION_BUCKETS), summary.count)
    histogram = Histogram(type=Histogram.STANDARD)
    for value, count in sorted(summary.value_counts.items()):
        histogram.buckets.add(low_value=value, high_value=value, sample_count=count)
    return histogram


def _equal_buckets(edges: np.ndarray, count: int) -> Histogram:
    buckets = len(edges) - 1
    return _histogram(Histogram.QUANTILES, edges, np.full(buckets, count / buckets))


def _histogram(histogram_type: Any, edges: Any, counts: Any) -> Histogram:
    histogram = Histogram(type=histogram_type)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        histogram.buckets.add(low_value=float(low), high_value=float(high), sample_count=float(count))
    return histogram


def _string_statistics(summary: StringSummary) -> statistics_pb2.StringStatistics:
    statistics = statistics_pb2.StringStatistics(
        unique=summary.distinct.Estimate(), avg_length=summary.total_bytes / max(summary.count, 1)
    )
    entries = [(entry["values"].decode(), entry["counts"]) for entry in summary.top.Estimate().to_pylist()]
    entries.sort(key=lambda entry: (-entry[1], entry[0]))
    for rank, (word, count) in enumerate(entries[:_RANKS]):
        if rank < _TOP_VALUES:
            statistics.top_values.add(value=word, frequency=count)
        statistics.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=word, sample_count=count)
    return statistics


def write_statistics(statistics: statistics_pb2.DatasetFeatureStatisticsList, path: str) -> str:
    """Writes statistics as text, atomically, as TFDV's `load_stats_text` reads them; returns `path`."""
    with create_atomically(path) as file:
        file.write(text_format.MessageToString(statistics, as_utf8=True).encode())
    return path


@dataclasses.dataclass
class GenerateStatistics(beam.PTransform):
    """Turns `(dataset, batch)` elements into one `DatasetFeatureStatisticsList`.

    Attributes:
        names: of its datasets, in this order; there is one for each, also without rows.
        label_name: column whose mean is wanted for each word, or whole number, of the others.
        bounds: least and greatest expected number by column; what is beyond is counted.
    """

    names: tuple[str, ...] = SPLITS
    label_name: str | None = None
    bounds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Combines the batches' summaries."""
        combine = _StatisticsFn(self.names, self.label_name, self.bounds)
        return batches | "SummarizeColumns" >> beam.CombineGlobally(combine)


class _StatisticsFn(beam.CombineFn):
    def __init__(self, names: tuple[str, ...], label_name: str | None, bounds: Mapping[str, tuple[float, float]]):
        self._names, self._label_name, self._bounds = names, label_name, bounds

    def create_accumulator(self) -> dict[str, SplitSummary]:
        return {}

    def add_input(
        self, accumulator: dict[str, SplitSummary], element: tuple[str, pa.RecordBatch]
    ) -> dict[str, SplitSummary]:
        split, batch = element
        accumulator.setdefault(split, SplitSummary(self._label_name, self._bounds)).add(batch)
        return accumulator

    def merge_accumulators(self, accumulators: Any) -> dict[str, SplitSummary]:
        merged: dict[str, SplitSummary] = {}
        for accumulator in accumulators:
            for split, summary in accumulator.items():
                merged.setdefault(split, SplitSummary(self._label_name, self._bounds)).merge(summary)
        return merged

    def extract_output(self, accumulator: dict[str, SplitSummary]) -> statistics_pb2.DatasetFeatureStatisticsList:
        return dataset_statistics(accumulator, self._names)
