"""The statistics of a night's examples, read from TensorFlow Data Validation's proto into what the report draws."""

import dataclasses
from typing import Any

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2

from transforms.monitoring.readings import distribution_of


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """One feature in one dataset.

    Attributes:
        count: values that are there.
        buckets: `(low, high, count)` of the finest histogram of a number, in order; a bucket without width is a value.
        words: `(word, count)` by falling count, only the first of many.
        unique: different words.
    """

    name: str
    count: int
    missing: int
    mean: float | None = None
    median: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    buckets: tuple[tuple[float, float, float], ...] = ()
    words: tuple[tuple[str, float], ...] = ()
    unique: int | None = None

    def rows_between(self, edges: np.ndarray) -> np.ndarray:
        """Rows in the bins between rising edges, each without its upper edge but for the last.

        A bucket is spread evenly over its width; a value falls in its bin whole.
        """
        rows = np.zeros(len(edges) - 1)
        for low, high, count in self.buckets:
            if low == high:
                place = min(int(np.searchsorted(edges, low, side="right")) - 1, len(rows) - 1)
                if edges[0] <= low <= edges[-1]:
                    rows[place] += count
            else:
                with np.errstate(over="ignore"):  # a bucket may be as narrow as floats go
                    shares = np.clip((edges - low) / (high - low), 0, 1)
                rows += count * np.diff(shares)
        return rows

    @property
    def is_text(self) -> bool:
        """Whether its values are words."""
        return self.unique is not None

    @property
    def missing_fraction(self) -> float:
        """Of all rows."""
        return self.missing / max(self.count + self.missing, 1)


Datasets = dict[str, dict[str, FeatureStatistics]]


def read_statistics(text: str | None) -> Datasets:
    """Features by dataset, of the text of a `statistics.pbtxt`; none where there is none or it is broken."""
    if text is None:
        return {}
    try:
        parsed = text_format.Parse(text, statistics_pb2.DatasetFeatureStatisticsList(), allow_unknown_field=True)
    except text_format.ParseError:
        return {}
    return {
        dataset.name: {feature.path.step[0]: _feature(feature) for feature in dataset.features}
        for dataset in parsed.datasets
    }


def _feature(feature: Any) -> FeatureStatistics:
    name = feature.path.step[0]
    if feature.HasField("string_stats"):
        text = feature.string_stats
        ranked = [(bucket.label, bucket.sample_count) for bucket in text.rank_histogram.buckets]
        words = ranked or [(entry.value, entry.frequency) for entry in text.top_values]
        common = text.common_stats
        return FeatureStatistics(
            name, common.num_non_missing, common.num_missing, words=tuple(words), unique=text.unique
        )
    stats, common = feature.num_stats, feature.num_stats.common_stats
    if not common.num_non_missing:
        return FeatureStatistics(name, 0, common.num_missing)
    finest = distribution_of(feature) if feature.custom_stats else None
    finest = finest or next((h for h in stats.histograms if h.type == statistics_pb2.Histogram.STANDARD), None)
    return FeatureStatistics(
        name=name,
        count=common.num_non_missing,
        missing=common.num_missing,
        mean=stats.mean,
        median=stats.median,
        minimum=stats.min,
        maximum=stats.max,
        buckets=tuple((b.low_value, b.high_value, b.sample_count) for b in finest.buckets) if finest else (),
    )
