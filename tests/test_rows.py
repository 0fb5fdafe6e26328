"""Rows sorted into good and bad, and batches of an exact size."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from configs.errors import JobError, RefusedError
from transforms.examples.readers.rows import BadRow, DerivedLabel, Expected, check_columns, exact_batches, sort_rows

COLUMNS = {"x": "float", "word": "string", "n": "int"}
ARRAYS = {
    "x": pa.array([1.0, None, np.inf, 4.0, 5.0]),
    "word": pa.array(["a", "b", None, None, "e"]),
    "n": pa.array([1.0, 2.0, 3.0, 4.0, 5.5]),
}
LINES = np.array([2, 3, 4, 7, 8])


def test_sorts_each_row_once_with_the_first_column_at_fault():
    expected = Expected(COLUMNS, {"word": "word is missing"})
    batch, bad_rows = sort_rows("f.csv", ARRAYS, expected, LINES)
    assert batch.to_pylist() == [{"x": 1.0, "word": "a", "n": 1}, {"x": None, "word": "b", "n": 2}]
    assert batch.schema == expected.schema
    assert bad_rows == [
        BadRow("f.csv", 4, "x", "inf", "expected a finite number"),
        BadRow("f.csv", 7, "word", "", "word is missing"),
        BadRow("f.csv", 8, "n", "5.5", "expected a whole number, got double"),
    ]


def test_derived_label_comes_last_and_may_not_be_missing():
    expected = Expected({"x": "float", "n": "float"}, {}, DerivedLabel("big", "int", "x >= n"))
    arrays = {"x": ARRAYS["x"], "n": ARRAYS["n"]}
    batch, bad_rows = sort_rows("f.csv", arrays, expected, LINES)
    assert batch.to_pylist() == [
        {"x": 1.0, "n": 1.0, "big": 1},
        {"x": 4.0, "n": 4.0, "big": 1},
        {"x": 5.0, "n": 5.5, "big": 0},
    ]
    assert [str(row) for row in bad_rows] == [
        "f.csv:3: big='': the label is missing: x >= n is null",
        "f.csv:4: x='inf': expected a finite number",
    ]


def test_derived_label_of_another_type_is_a_fault_and_of_an_unknown_column_an_error():
    label = DerivedLabel("big", "float", "word || '!'")
    _, bad_rows = sort_rows("f", ARRAYS, Expected(COLUMNS, {}, label), LINES)
    assert bad_rows[0] == BadRow("f", 2, "big", "a!", "expected a number, got string")
    with pytest.raises(JobError, match="unknown column 'words'; did you mean 'word'"):
        sort_rows("f", ARRAYS, Expected(COLUMNS, {}, DerivedLabel("big", "float", "words")), LINES)


@hypothesis.given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_exact_batches_keep_every_row_in_order(sizes, batch_rows):
    values = iter(range(sum(sizes)))
    pieces = [pa.record_batch({"x": pa.array([next(values) for _ in range(size)], pa.int64())}) for size in sizes]
    batches = list(exact_batches(pieces, batch_rows))
    assert [value for batch in batches for value in batch["x"].to_pylist()] == list(range(sum(sizes)))
    assert all(batch.num_rows == batch_rows for batch in batches[:-1])
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)


def test_exact_batches_pass_bad_rows_on():
    bad_row = BadRow("f", 1, "", "", "why")
    batch = pa.record_batch({"x": [1]})
    assert list(exact_batches([bad_row, batch, bad_row], 2)) == [bad_row, bad_row, batch]


def test_columns_must_be_there_once():
    with pytest.raises(RefusedError, match=r"^f: no column 'n'; its columns are x, word$"):
        check_columns("f", ["x", "word"], Expected(COLUMNS))
    with pytest.raises(RefusedError, match=r"^f: column 'x' is there 2 times, expected once$"):
        check_columns("f", ["x", "word", "n", "x"], Expected(COLUMNS))
    check_columns("f", ["other", "n", "word", "x", "other"], Expected(COLUMNS))
