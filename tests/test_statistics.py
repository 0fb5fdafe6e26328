"""Statistics in tensorflow_metadata's protos, alone and as a pipeline."""

import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics, Histogram

from beam_jobs.pipelines import run_pipeline
from benchmarks.statistics import LABEL, make_batch
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.statistics import GenerateStatistics, dataset_statistics, write_statistics
from transforms.monitoring.comparison import same_examples


def batch(start, stop):
    numbers = np.arange(start, stop)
    return pa.record_batch(
        {
            "x": pa.array(numbers / 10, mask=numbers % 100 == 0),
            "n": pa.array(numbers % 7),
            "word": pa.array([f"w{number % 3}" if number % 4 else None for number in numbers], pa.string()),
        }
    )


@pytest.fixture(scope="module")
def train():
    summary = SplitSummary()
    for start in range(0, 10_000, 2_500):
        summary.add(batch(start, start + 2_500))
    statistics = dataset_statistics({"train": summary})
    assert [(dataset.name, dataset.num_examples) for dataset in statistics.datasets] == [("train", 10_000), ("eval", 0)]
    return {feature.path.step[0]: feature for feature in statistics.datasets[0].features}


def test_numbers(train):
    stats = train["x"].num_stats
    values = np.array([number / 10 for number in range(10_000) if number % 100])
    assert train["x"].type == FeatureNameStatistics.FLOAT
    common = stats.common_stats
    assert (common.num_non_missing, common.num_missing, common.tot_num_values) == (9_900, 100, 9_900)
    assert (common.min_num_values, common.max_num_values, common.avg_num_values) == (1, 1, 1)
    assert (stats.min, stats.max) == (values.min(), values.max())
    assert stats.mean == pytest.approx(values.mean())
    assert stats.std_dev == pytest.approx(values.std())
    assert stats.median == pytest.approx(np.median(values), rel=0.005)
    assert train["n"].type == FeatureNameStatistics.INT
    assert train["n"].num_stats.num_zeros == 1_429


def test_histograms_hold_every_value(train):
    standard, quantiles = train["x"].num_stats.histograms
    assert (standard.type, quantiles.type) == (Histogram.STANDARD, Histogram.QUANTILES)
    for histogram in (standard, quantiles):
        assert sum(bucket.sample_count for bucket in histogram.buckets) == pytest.approx(9_900)
        assert (histogram.buckets[0].low_value, histogram.buckets[-1].high_value) == pytest.approx((0.1, 999.9))
        assert [bucket.sample_count for bucket in histogram.buckets] == pytest.approx([990] * 10, rel=0.03)
        edges = [bucket.high_value for bucket in histogram.buckets[:-1]]
        assert edges == pytest.approx([100 * i for i in range(1, 10)], rel=0.02)


def test_fields_are_filled_as_tfdv_fills_them(train):
    """`num_values_histogram` has ten buckets from 1 to 1 for a column of single values, as in TFDV's own output."""
    common = train["x"].num_stats.common_stats
    assert common.num_values_histogram.type == Histogram.QUANTILES
    buckets = [(bucket.low_value, bucket.high_value) for bucket in common.num_values_histogram.buckets]
    assert buckets == [(1, 1)] * 10
    assert sum(bucket.sample_count for bucket in common.num_values_histogram.buckets) == pytest.approx(9_900)
    assert train["x"].num_stats.mean == sum(number / 10 for number in range(10_000) if number % 100) / 9_900


def test_few_numbers_are_counted_each_and_many_in_quantiles(train):
    (few,), (many,) = train["n"].custom_stats, train["x"].custom_stats
    assert (few.name, many.name) == ("distribution", "distribution")
    found = [(bucket.low_value, bucket.high_value, bucket.sample_count) for bucket in few.histogram.buckets]
    assert found == [(day, day, 1_429 if day < 4 else 1_428) for day in range(7)]
    assert [bucket.sample_count for bucket in many.histogram.buckets] == [99] * 100
    assert [bucket.high_value for bucket in many.histogram.buckets][49] == pytest.approx(500, rel=0.005)


def test_one_value_is_one_bucket():
    summary = SplitSummary()
    summary.add(pa.record_batch({"x": [2.5, 2.5]}))
    (x,) = dataset_statistics({"train": summary}).datasets[0].features
    (bucket,) = x.num_stats.histograms[0].buckets
    assert (bucket.low_value, bucket.high_value, bucket.sample_count) == (2.5, 2.5, 2)
    assert (x.num_stats.std_dev, x.num_stats.median) == (0.0, 2.5)


def test_words(train):
    stats = train["word"].string_stats
    assert train["word"].type == FeatureNameStatistics.STRING
    assert (stats.common_stats.num_non_missing, stats.common_stats.num_missing) == (7_500, 2_500)
    assert (stats.unique, stats.avg_length) == (3, 2.0)
    assert [(top.value, top.frequency) for top in stats.top_values] == [("w0", 2500), ("w1", 2500), ("w2", 2500)]
    assert [(bucket.label, bucket.low_rank) for bucket in stats.rank_histogram.buckets] == [
        ("w0", 0),
        ("w1", 1),
        ("w2", 2),
    ]


def test_a_column_without_values_has_only_counts():
    summary = SplitSummary()
    summary.add(pa.record_batch({"x": pa.nulls(3, pa.float64()), "word": pa.nulls(3, pa.string())}))
    x, word = dataset_statistics({"eval": summary}).datasets[1].features
    assert (x.num_stats.common_stats.num_missing, len(x.num_stats.histograms)) == (3, 0)
    assert (word.string_stats.common_stats.num_missing, word.string_stats.unique) == (3, 0)


def test_however_rows_are_bundled_all_but_sketched_quantiles_is_the_same():
    """As on many workers: an accumulator for each batch, in another order, and some of them merged first."""
    parts = [batch(start, stop) for start, stop in ((0, 3), (3, 4_000), (4_000, 4_001), (4_001, 10_000))]
    found = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        merged = SplitSummary()
        for index in order:
            one = SplitSummary()
            one.add(parts[index])
            merged.merge(pickle.loads(pickle.dumps(one)))
        statistics = dataset_statistics({"train": merged})
        x = statistics.datasets[0].features[0]
        for histogram in (*x.num_stats.histograms, x.custom_stats[0].histogram):  # more than 1,000 values: a sketch
            histogram.Clear()
        x.num_stats.ClearField("median")
        found.append(statistics.SerializeToString(deterministic=True))
    assert found == [found[0]] * 3


def test_the_pipeline_gives_what_the_summaries_give():
    parts = [("train", batch(0, 300)), ("eval", batch(300, 400)), ("train", batch(400, 450))]
    direct = {"train": SplitSummary(), "eval": SplitSummary()}
    for split, rows in parts:
        direct[split].add(rows)
    with beam.Pipeline() as pipeline:
        statistics = pipeline | beam.Create(parts, reshuffle=False) | GenerateStatistics()
        assert_that(statistics, equal_to([dataset_statistics(direct)]))


@pytest.mark.slow
def test_several_workers_give_what_one_gives(tmp_path):
    """To the last bit where that is promised; quantiles within a thousandth of the rows."""
    path, blocks = tmp_path / "statistics.pbtxt", list(range(8))

    def define(root):
        return (
            root
            | "Blocks" >> beam.Create(blocks)
            | "BreakFusion" >> beam.Reshuffle()
            | "MakeBatches" >> beam.Map(lambda block: make_batch(block, 5_000, 5))
            | "GenerateStatistics" >> GenerateStatistics(label_name=LABEL, bounds={LABEL: (0.1, 2.0)})
            | "WriteStatistics" >> beam.Map(write_statistics, str(path))
        )

    run_pipeline(define, ["--direct_num_workers=2", "--direct_running_mode=multi_processing"])
    parallel = text_format.Parse(path.read_text(), statistics_pb2.DatasetFeatureStatisticsList())
    summary = SplitSummary(LABEL, {LABEL: (0.1, 2.0)})
    for block in blocks:
        summary.add(make_batch(block, 5_000, 5)[1])
    alone = dataset_statistics({"train": summary})
    assert same_examples(parallel, alone)
    exact = ("outside", "label_means", "label_deviations")
    numbers = np.sort(np.concatenate([make_batch(block, 5_000, 5)[1][LABEL].to_numpy() for block in blocks]))
    for here, there in zip(parallel.datasets[0].features, alone.datasets[0].features, strict=True):
        kept = [[custom for custom in stats.custom_stats if custom.name in exact] for stats in (here, there)]
        assert kept[0] == kept[1]
        if here.path.step[0] == LABEL:
            (histogram,) = (custom.histogram for custom in here.custom_stats if custom.name == "distribution")
            ranks = np.searchsorted(numbers, [bucket.high_value for bucket in histogram.buckets[:-1]]) / len(numbers)
            np.testing.assert_allclose(ranks, np.arange(1, 100) / 100, atol=0.001)
