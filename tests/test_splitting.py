"""The hash split: stable for ever, blind to types, near its fraction."""

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pytest

from transforms.examples.splitting import eval_mask


def sides(columns, by, fraction=0.5):
    return eval_mask(pa.record_batch(columns), by, fraction).to_pylist()


def test_golden_sides_never_change():
    """Rows of published nights were split like this; another hash would train on yesterday's eval rows."""
    words = pa.array(["a", "b", "c", "d", "e", None, "", "é"])
    assert sides({"word": words}, ("word",)) == [False, False, False, True, False, False, True, True]
    numbers = pa.array(range(8))
    assert sides({"word": words, "n": numbers}, ("word", "n")) == [False, False, True, False, False, True, True, False]


@hypothesis.given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=30))
def test_an_int_and_its_text_fall_on_the_same_side(values):
    texts = [None if value is None else str(value) for value in values]
    as_ints = sides({"x": pa.array(values, pa.int64())}, ("x",))
    assert as_ints == sides({"x": pa.array(texts, pa.string())}, ("x",))
    assert len(as_ints) == len(values)


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=30), st.randoms(), st.data()
)
def test_a_row_s_side_depends_on_its_own_values_only(rows, random, data):
    def masked(rows):
        words, numbers = zip(*rows, strict=True)
        return sides({"word": words, "n": numbers}, ("n", "word"))

    known = dict(zip(rows, masked(rows), strict=True))
    shuffled = rows * 2
    random.shuffle(shuffled)
    assert masked(shuffled) == [known[row] for row in shuffled]
    row = data.draw(st.sampled_from(rows))
    assert masked([row]) == [known[row]]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_share_is_near_the_fraction_and_larger_fractions_contain_smaller_ones(fraction):
    columns = {"x": pa.array(range(20_000))}
    mask = sides(columns, ("x",), fraction)
    assert sum(mask) / len(mask) == pytest.approx(fraction, abs=0.01)
    larger = sides(columns, ("x",), fraction + 0.05)
    assert all(after for before, after in zip(mask, larger, strict=True) if before)


def test_neighbouring_texts_are_told_apart():
    """64 sides of each pair, each time with one more text behind it, look the same only if the pairs do."""
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), (None, "abc")]
    numbers = pa.array(range(64))
    patterns = {
        tuple(sides({"a": pa.array([a] * 64, pa.string()), "b": [b] * 64, "n": numbers}, ("a", "b", "n")))
        for a, b in pairs
    }
    assert len(patterns) == len(pairs)
