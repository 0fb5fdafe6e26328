"""Statistics of examples by split, in tensorflow_metadata's protos, so that TensorFlow Data Validation can read them.

The mathematics is in the columns' summaries; Beam adds nothing but the distribution.
"""

import dataclasses
import math
import pickle
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics, Histogram

from transforms.examples.column_summaries import NumericSummary, SplitSummary, StringSummary

SPLITS = ("train", "eval")
_TOP_VALUES = 20
_BUCKETS = 10
_FINE_QUANTILES = 1000


def dataset_statistics(splits: dict[str, SplitSummary]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics with a dataset for each split, also for one without rows."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    for split in SPLITS:
        summary = splits.get(split, SplitSummary())
        dataset = statistics.datasets.add(name=split, num_examples=summary.rows)
        dataset.features.extend(feature_statistics(name, column) for name, column in summary.columns.items())
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
    feature = FeatureNameStatistics()
    feature.path.step.append(name)
    if isinstance(summary, StringSummary):
        feature.type = FeatureNameStatistics.STRING
        feature.string_stats.CopyFrom(_string_statistics(summary))
        feature.string_stats.common_stats.CopyFrom(common)
        return feature
    feature.type = FeatureNameStatistics.INT if summary.is_int else FeatureNameStatistics.FLOAT
    if summary.count:
        feature.num_stats.CopyFrom(_numeric_statistics(summary))
    feature.num_stats.common_stats.CopyFrom(common)
    return feature


def _numeric_statistics(summary: NumericSummary) -> statistics_pb2.NumericStatistics:
    # Asking a sketch for quantiles closes it for good, and Beam may still want to merge this one.
    sketch = pickle.loads(pickle.dumps(summary.quantiles))
    fine = np.array(sketch.GetQuantiles(_FINE_QUANTILES).to_pylist()[0])
    return statistics_pb2.NumericStatistics(
        mean=summary.mean,
        std_dev=math.sqrt(summary.squares / summary.count),
        num_zeros=summary.zeros,
        min=summary.minimum,
        median=float(fine[_FINE_QUANTILES // 2]),
        max=summary.maximum,
        histograms=[_standard_histogram(summary, fine), _quantiles_histogram(summary, fine)],
    )


def _standard_histogram(summary: NumericSummary, fine: np.ndarray) -> Histogram:
    edges = np.linspace(summary.minimum, summary.maximum, _BUCKETS + 1)
    below = np.searchsorted(fine, edges, side="left") / len(fine)
    below[0], below[-1] = 0.0, 1.0
    return _histogram(Histogram.STANDARD, edges, np.diff(below) * summary.count)


def _quantiles_histogram(summary: NumericSummary, fine: np.ndarray) -> Histogram:
    edges = fine[:: _FINE_QUANTILES // _BUCKETS]
    return _histogram(Histogram.QUANTILES, edges, np.full(_BUCKETS, summary.count / _BUCKETS))


def _histogram(histogram_type: Any, edges: np.ndarray, counts: np.ndarray) -> Histogram:
    histogram = Histogram(type=histogram_type)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        histogram.buckets.add(low_value=float(low), high_value=float(high), sample_count=float(count))
    return histogram


def _string_statistics(summary: StringSummary) -> statistics_pb2.StringStatistics:
    statistics = statistics_pb2.StringStatistics(
        unique=summary.distinct.Estimate(), avg_length=summary.total_bytes / max(summary.count, 1)
    )
    for rank, entry in enumerate(summary.top.Estimate().to_pylist()):
        word, count = entry["values"].decode(), entry["counts"]
        if rank < _TOP_VALUES:
            statistics.top_values.add(value=word, frequency=count)
        statistics.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=word, sample_count=count)
    return statistics


@dataclasses.dataclass
class GenerateStatistics(beam.PTransform):
    """Turns `(split, batch)` elements into one `DatasetFeatureStatisticsList` with the datasets `train` and `eval`."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Combines the batches' summaries."""
        return batches | "SummarizeColumns" >> beam.CombineGlobally(_StatisticsFn())


class _StatisticsFn(beam.CombineFn):
    def create_accumulator(self) -> dict[str, SplitSummary]:
        return {}

    def add_input(
        self, accumulator: dict[str, SplitSummary], element: tuple[str, pa.RecordBatch]
    ) -> dict[str, SplitSummary]:
        split, batch = element
        accumulator.setdefault(split, SplitSummary()).add(batch)
        return accumulator

    def merge_accumulators(self, accumulators: Any) -> dict[str, SplitSummary]:
        merged: dict[str, SplitSummary] = {}
        for accumulator in accumulators:
            for split, summary in accumulator.items():
                merged.setdefault(split, SplitSummary()).merge(summary)
        return merged

    def extract_output(self, accumulator: dict[str, SplitSummary]) -> statistics_pb2.DatasetFeatureStatisticsList:
        return dataset_statistics(accumulator)
