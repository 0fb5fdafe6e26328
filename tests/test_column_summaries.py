"""Summaries: against numpy, and the same however the rows are cut."""

import collections
import math
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from transforms.examples.column_summaries import (
    EXACT_VALUES,
    LABELLED_VALUES,
    NumericSummary,
    SplitSummary,
    StringSummary,
)

# Not so small that numpy's squares of them, with which the sums are compared, vanish.
FLOATS = st.floats(-1e9, 1e9).map(lambda number: number if abs(number) > 1e-100 else 0.0)
NUMBERS = st.lists(st.one_of(st.none(), FLOATS), max_size=30)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "bb", "ccc", "é"])), max_size=30)


def summarize(parts, column_type, new):
    """Summary of parts, each taken in by a summary of its own that travels as between workers, then merged."""
    merged = new()
    for part in parts:
        summary = new()
        summary.add(pa.array(part, column_type))
        merged.merge(pickle.loads(pickle.dumps(summary)))
    return merged


@hypothesis.given(st.lists(NUMBERS, max_size=4))
def test_numbers_are_as_numpy_counts_them_however_they_are_cut(parts):
    summary = summarize(parts, pa.float64(), lambda: NumericSummary(is_int=False))
    everything = [value for part in parts for value in part]
    values = np.array([value for value in everything if value is not None])
    assert (summary.rows, summary.count, summary.zeros) == (len(everything), len(values), int((values == 0).sum()))
    if len(values):
        assert (summary.minimum, summary.maximum) == (values.min(), values.max())
        scale = max(float(np.abs(values).max()), 1e-300)
        assert summary.moments.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-12 * scale)
        assert summary.moments.std_dev == pytest.approx(values.std(), rel=1e-6, abs=1e-9 * scale)
        quantiles = np.quantile(values, np.arange(5) / 4, method="inverted_cdf")
        np.testing.assert_array_equal(summary.quantiles(4), quantiles)
    together = summarize([everything], pa.float64(), lambda: NumericSummary(is_int=False))
    assert (summary.moments, summary.value_counts) == (together.moments, together.value_counts)


@pytest.mark.parametrize("values", [EXACT_VALUES, EXACT_VALUES + 1])
def test_values_are_counted_until_they_are_too_many_however_they_are_cut(values):
    numbers = np.repeat(np.arange(values) / 8, 3)
    np.random.default_rng(0).shuffle(numbers)
    for cuts in ([], [7], [500, 501, 2000]):
        summary = summarize(np.split(numbers, cuts), pa.float64(), lambda: NumericSummary(is_int=False))
        if values <= EXACT_VALUES:
            assert summary.value_counts == dict.fromkeys((np.arange(values) / 8).tolist(), 3)
        else:
            assert summary.value_counts is None
        ranks = np.searchsorted(np.sort(numbers), summary.quantiles(20)) / len(numbers)
        np.testing.assert_allclose(ranks, np.arange(21) / 20, atol=0.003)


def test_a_part_without_values_does_not_end_the_counting():
    summary = summarize([[], [1.0], [None]], pa.float64(), lambda: NumericSummary(is_int=False))
    assert summary.value_counts == {1.0: 1}


def test_quantiles_of_many_values_are_within_their_error():
    generator = np.random.default_rng(1)
    numbers = generator.lognormal(size=50_000)
    summary = summarize(np.array_split(numbers, 7), pa.float64(), lambda: NumericSummary(is_int=False))
    ranks = np.searchsorted(np.sort(numbers), summary.quantiles(100)) / len(numbers)
    np.testing.assert_allclose(ranks, np.arange(101) / 100, atol=0.001)
    assert (summary.quantiles(100)[0], summary.quantiles(100)[-1]) == (numbers.min(), numbers.max())


def test_spread_survives_a_large_offset():
    summary = NumericSummary(is_int=True)
    for start in (0, 2):
        summary.add(pa.array([2**40 + start, 2**40 + start + 1], pa.int64()))
    assert summary.moments.std_dev == math.sqrt(1.25)  # of 0, 1, 2, 3 around 1.5


@hypothesis.given(st.lists(WORDS, max_size=4))
def test_words_are_counted_exactly_however_they_are_cut(parts):
    summary = summarize(parts, pa.string(), StringSummary)
    everything = [word for part in parts for word in part]
    present = [word for word in everything if word is not None]
    assert (summary.rows, summary.count) == (len(everything), len(present))
    assert summary.total_bytes == sum(len(word.encode()) for word in present)
    assert summary.distinct.Estimate() == len(set(present))
    counted = {entry["values"].decode(): entry["counts"] for entry in summary.top.Estimate().to_pylist()}
    assert counted == collections.Counter(present)


def test_a_split_has_a_summary_for_each_column():
    one, other = SplitSummary(), SplitSummary()
    one.add(pa.record_batch({"x": [1.0], "n": [1], "word": ["a"]}))
    other.add(
        pa.record_batch(
            {"x": [3.0], "n": [None], "word": ["b"]},
            schema=pa.schema([("x", pa.float64()), ("n", pa.int64()), ("word", pa.string())]),
        )
    )
    merged = SplitSummary()
    merged.merge(one)
    merged.merge(other)
    assert merged.rows == 2
    assert [type(column) for column in merged.columns.values()] == [NumericSummary, NumericSummary, StringSummary]
    assert [column.is_int for column in list(merged.columns.values())[:2]] == [False, True]
    assert (merged.columns["x"].moments.mean, merged.columns["n"].missing, merged.columns["word"].count) == (2.0, 1, 2)


@pytest.mark.parametrize(("values", "kept"), [(LABELLED_VALUES, True), (LABELLED_VALUES + 1, False)])
def test_labels_are_kept_for_few_values_however_they_are_cut(values, kept):
    numbers = np.arange(2 * values) % values
    rows = pa.record_batch({"n": numbers, "word": [f"w{number}" for number in numbers], "y": numbers * 1.5})
    one, other = SplitSummary("y"), SplitSummary("y")
    one.add(rows.slice(0, values // 2))
    other.add(rows.slice(values // 2))
    one.merge(other)
    assert sorted(one.labels) == ["n", "word"]
    for labels in one.labels.values():
        assert (labels.moments is not None) == kept
    if kept:
        assert {value: moments.mean for value, moments in one.labels["n"].moments.items()} == {
            value: value * 1.5 for value in range(values)
        }
