"""Which rows make a slice, and what a slice is called."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.evaluation.slicing import ModelMetrics, SliceKey, SliceMetrics, assign_slices

BATCH = pa.table(
    {
        "sex": pa.array(["True", None, "True", "False"]),
        "age": pa.array([29.5, 30.0, 29.5, None]),
        "month": pa.array([1, 1, 1, 1], pa.int64()),
    }
)


def rows_by_slice(batch, columns) -> dict[str, list[int]]:
    keys, ids = assign_slices(batch, columns)
    return {str(key): np.flatnonzero(ids == index).tolist() for index, key in enumerate(keys)}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param((), {"overall": [0, 1, 2, 3]}, id="overall"),
        pytest.param(("sex",), {"sex=True": [0, 2], "sex=null": [1], "sex=False": [3]}, id="missing-is-a-slice"),
        pytest.param(("age",), {"age=29.5": [0, 2], "age=30": [1], "age=null": [3]}, id="floats"),
        pytest.param(
            ("month", "sex"),
            {"month=1,sex=True": [0, 2], "month=1,sex=null": [1], "month=1,sex=False": [3]},
            id="two-columns",
        ),
    ],
)
def test_each_row_is_in_the_slice_of_its_values(columns, expected):
    assert rows_by_slice(BATCH, columns) == expected


def test_no_rows_have_no_slices():
    keys, ids = assign_slices(BATCH.slice(0, 0), ("sex",))
    assert (keys, ids.tolist()) == ([], [])
    assert assign_slices(BATCH.slice(0, 0), ())[0] == []


def test_chunks_and_signed_zeros_do_not_make_slices_of_their_own():
    column = pa.chunked_array([pa.array([0.0, 1.0]), pa.array([-0.0])])
    assert rows_by_slice(pa.table({"x": column}), ("x",)) == {"x=0": [0, 2], "x=1": [1]}


words = st.one_of(st.none(), st.text(alphabet='ab=," nul\n', max_size=4))


@given(st.lists(st.tuples(words, words), min_size=1, max_size=20))
def test_slices_partition_the_rows_and_different_slices_have_different_texts(values):
    left, right = zip(*values, strict=True)
    batch = pa.table({"a": pa.array(left, pa.string()), "b": pa.array(right, pa.string())})
    keys, ids = assign_slices(batch, ("a", "b"))
    assert [keys[index].values for index in ids] == values
    assert len({str(key) for key in keys}) == len(set(values)) == len(keys)
    assert all("\n" not in str(key) for key in keys)


def test_many_columns_of_many_values_do_not_overflow():
    size = 2_000
    columns = {f"c{n}": pa.array(np.random.default_rng(n).permutation(size)) for n in range(8)}  # 2,000 ** 8 > 2 ** 63
    keys, ids = assign_slices(pa.table(columns), tuple(columns))
    assert sorted(ids.tolist()) == list(range(size))
    assert [keys[index].values for index in ids] == list(zip(*(c.to_pylist() for c in columns.values()), strict=True))


def test_metrics_come_in_order_and_survive_json():
    metrics = ModelMetrics.from_slices(
        {
            SliceKey(("sex",), (None,)): {"mae": None},
            SliceKey(("sex",), ("b",)): {"mae": 2.0},
            SliceKey(("sex",), ("a",)): {"mae": 1.0},
            SliceKey(): {"mae": 1.5},
        },
        [(), ("sex",)],
    )
    assert [entry.slice for entry in metrics.slices] == ["overall", "sex=a", "sex=b", "sex=null"]
    assert ModelMetrics.from_json(json.loads(json.dumps(dataclasses.asdict(metrics), allow_nan=False))) == metrics
    assert metrics.of_slice("sex=b") == SliceMetrics("sex=b", {"sex": "b"}, {"mae": 2.0})
    assert metrics.of_slice("sex=c") is None
    assert [entry.slice for entry in metrics.of_specification(("sex",))] == ["sex=a", "sex=b", "sex=null"]
    assert [entry.slice for entry in metrics.of_specification(())] == ["overall"]
