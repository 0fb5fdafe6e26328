"""Content order: the same rows give the same batches, however they came."""

import math

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.examples import ordering
from transforms.examples.ordering import PutInContentOrder, count_hands, deal_rows, hash_rows, sort_by_content

SCHEMA = pa.schema([("word", pa.string()), ("fare", pa.float64()), ("rooms", pa.int64())])
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(max_size=2),
        st.none() | st.floats(allow_nan=False, width=16),
        st.none() | st.integers(-3, 2**63 - 1),
    ),
    min_size=1,
    max_size=30,
)


def batch_of(rows):
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), SCHEMA, strict=True)], schema=SCHEMA
    )


def rows_of(batch):
    # By repr: a negative zero is another value, though Python takes the two for equal.
    return list(map(repr, zip(*batch.to_pydict().values(), strict=True)))


@settings(deadline=None)
@given(ROWS, st.integers(1, 5), st.data())
def test_the_order_is_that_of_the_content(rows, hands, data):
    cuts = data.draw(st.integers(0, len(rows)))
    other = data.draw(st.permutations(rows))

    def ordered(batches):
        dealt = {}
        for batch in batches:
            for hand, part in deal_rows(batch, hands):
                dealt.setdefault(hand, []).append(part)
        return {hand: rows_of(sort_by_content(parts)) for hand, parts in dealt.items()}

    once = ordered([batch_of(rows)])
    assert ordered([batch_of(part) for part in (other[:cuts], other[cuts:]) if part]) == once
    assert sorted(row for part in once.values() for row in part) == sorted(rows_of(batch_of(rows)))
    assert set(once) <= set(range(hands))


def test_rows_of_one_hash_are_sorted_by_their_values(monkeypatch):
    monkeypatch.setattr(ordering, "hash_rows", lambda batch: np.zeros(batch.num_rows, np.uint64))
    rows = [("b", 1.0, 1), ("a", 2.0, 1), ("a", None, 1), ("a", 2.0, 0)]
    once, again = (sort_by_content([batch_of(given)]).to_pydict() for given in (rows, rows[::-1]))
    assert once == again
    assert once["word"] == ["a", "a", "a", "b"]
    assert once["fare"] == [2.0, 2.0, None, 1.0]


def test_hashes_are_the_same_for_good():
    rows = [("Zürich", 1.5, 3), (None, None, None), ("", 0.0, 0), ("", -0.0, 0)]
    assert hash_rows(batch_of(rows)).tolist() == [
        12364015485559385035,
        2899414479182984522,
        8105828177994277251,
        9858261205832953210,
    ]


def test_hands_are_even():
    numbers = pa.array(range(100_000))
    batch = pa.RecordBatch.from_arrays([numbers], ["number"])
    sizes = [rows.num_rows for _, rows in deal_rows(batch, 8)]
    assert len(sizes) == 8
    assert sum(sizes) == 100_000
    assert max(sizes) - min(sizes) < 8 * math.sqrt(100_000 / 8)


@pytest.mark.parametrize(
    ("rows", "hands"), [(0, 1), (1, 1), (1 << 18, 1), ((1 << 18) + 1, 2), (10**12, 1 << 12)], ids=str
)
def test_the_number_of_rows_decides_the_hands(rows, hands):
    assert count_hands(rows) == hands


def test_a_hand_is_cut_into_batches(monkeypatch):
    monkeypatch.setattr(ordering, "BATCH_ROWS", 4)
    rows = [(str(i), float(i), i) for i in range(10)]
    expected = rows_of(sort_by_content([batch_of(rows)]))
    with beam.Pipeline() as pipeline:
        pairs = (
            pipeline
            | beam.Create([batch_of(rows[7:]), batch_of(rows[:7])])
            | PutInContentOrder(10)
            | beam.MapTuple(lambda stem, batch: (stem, rows_of(batch)))
        )
        cut = [(f"00000-0000{n}", expected[4 * n : 4 * n + 4]) for n in range(3)]
        assert_that(pairs, equal_to(cut))
