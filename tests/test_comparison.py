"""Two samples by their statistics: whether they are the very same rows."""

import numpy as np
import pyarrow as pa
import pytest

from transforms.examples.column_summaries import SplitSummary
from transforms.examples.statistics import dataset_statistics
from transforms.monitoring.comparison import same_examples


def statistics(*batches):
    """Of the train split, each batch summarized on a worker of its own."""
    merged = SplitSummary()
    for batch in batches:
        one = SplitSummary()
        one.add(batch)
        merged.merge(one)
    return dataset_statistics({"train": merged})


@pytest.mark.parametrize("words", [2_000, 20_000], ids=["few", "more than are counted exactly"])
def test_the_same_rows_are_the_same_however_they_are_bundled(words):
    codes = np.random.default_rng(0).integers(0, words, 90_000)
    rows = pa.record_batch({"word": [f"w{code}" for code in codes], "n": codes % 7})
    again = statistics(rows.slice(0, 70_000), rows.slice(70_000))
    assert same_examples(statistics(rows), again)
    other = rows.set_column(1, "n", pa.array(codes % 6))
    assert not same_examples(statistics(other), again)


def test_words_that_occur_otherwise_are_other_rows():
    """As long and as many, so that only their counts tell."""
    here, there = (statistics(pa.record_batch({"word": ["a"] * count + ["b"] * (9 - count)})) for count in (4, 5))
    assert same_examples(here, here)
    assert not same_examples(here, there)
