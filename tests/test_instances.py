"""Instances: what a row says comes out of the example, and out of JSON, bit for bit, or is refused by name."""

import base64
import json
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from tfx_bsl.coders.example_coder import ExampleToNumpyDict

from beam_jobs.vertex.instances import LARGEST_EXACT_INT, example_instances, json_lines, object_instances
from configs.errors import RefusedError

FEATURES = {"word": "string", "size": "float", "count": "int"}
SCHEMA = pa.schema({"word": pa.string(), "size": pa.float64(), "count": pa.int64(), "other": pa.bool_()})
floats32 = st.floats(width=32)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def lines_of(instances):
    """What a reader of the lines sees."""
    text = json_lines(instances)
    assert text.isascii()
    lines = text.decode().split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


@hypothesis.given(
    st.lists(
        st.fixed_dictionaries(
            {
                "word": st.none() | texts,
                "size": st.none() | floats32,
                "count": st.none() | st.integers(-(2**63), 2**63 - 1),
                "other": st.none(),
            }
        ),
        max_size=5,
    )
)
def test_an_example_has_the_rows_values_and_nothing_where_they_are_missing(rows):
    instances = example_instances(pa.RecordBatch.from_pylist(rows, SCHEMA), FEATURES)
    assert instances.schema.names == ["example"]
    for row, line in zip(rows, lines_of(instances), strict=True):
        assert set(line["example"]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")
        found = ExampleToNumpyDict(base64.urlsafe_b64decode(line["example"]))
        values = {name: None if value is None else value.tolist() for name, value in found.items()}
        assert values["word"] == (None if row["word"] is None else [row["word"].encode()])
        assert values["count"] == (None if row["count"] is None else [row["count"]])
        if row["size"] is None:
            assert values["size"] is None
        else:
            assert found["size"].tobytes() == np.float32(row["size"]).tobytes() or math.isnan(row["size"])


def test_a_graph_takes_what_is_missing_for_missing():
    import tensorflow as tf

    rows = [{"word": "é", "size": 0.1, "count": 2**62 + 1}, {"word": None, "size": None, "count": None}]
    (texts,) = example_instances(pa.RecordBatch.from_pylist(rows, SCHEMA), FEATURES).to_pydict().values()
    spec = {
        "word": tf.io.FixedLenFeature([], tf.string, b""),
        "size": tf.io.FixedLenFeature([], tf.float32, float("nan")),
        "count": tf.io.FixedLenFeature([], tf.int64, -(2**63)),
    }
    parsed = tf.io.parse_example(tf.io.decode_base64(tf.constant(texts)), spec)
    assert parsed["word"].numpy().tolist() == ["é".encode(), b""]
    assert parsed["count"].numpy().tolist() == [2**62 + 1, -(2**63)]
    assert parsed["size"].numpy()[0] == np.float32(0.1)
    assert math.isnan(parsed["size"].numpy()[1])


def test_millions_of_rows_need_no_python_example():
    rows = 50_000
    batch = pa.RecordBatch.from_pydict(
        {"word": pa.array(["a"] * rows), "size": np.arange(rows, dtype=float), "count": pa.array(range(rows))}
    )
    instances = example_instances(batch, FEATURES)
    last = ExampleToNumpyDict(base64.urlsafe_b64decode(instances.column("example")[-1].as_py()))
    assert {name: value.tolist() for name, value in last.items()} == {
        "word": [b"a"],
        "size": [rows - 1],
        "count": [rows - 1],
    }


@hypothesis.given(
    st.lists(
        st.tuples(
            texts, floats32.filter(math.isfinite), st.integers(-LARGEST_EXACT_INT, LARGEST_EXACT_INT), st.booleans()
        ),
        min_size=1,
        max_size=5,
    )
)
def test_objects_come_out_of_json_as_they_went_in(rows):
    word, size, count, is_new = zip(*rows, strict=True)
    words = np.empty(len(rows), object)
    words[:] = [text.encode() for text in word]
    inputs = {
        'wo"rd %s': words.reshape(-1, 1),
        "size": np.array(size, np.float32),
        "double": np.array(size, np.float64)[:, None],
        "count": np.array(count, np.int64),
        "is_new": np.array(is_new, bool),
    }
    for row, line in zip(rows, lines_of(object_instances(inputs)), strict=True):
        assert line['wo"rd %s'] == [row[0]]
        assert np.float32(line["size"]).tobytes() == np.float32(row[1]).tobytes()
        assert np.float64(line["double"]).tobytes() == np.array([row[1]], np.float64).tobytes()
        assert (line["count"], line["is_new"]) == (row[2], row[3])
        assert type(line["count"]) is int


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([1, np.nan], np.float32), "nan"),
        (np.array([np.inf]), "inf"),
        (np.array([0, 2**53 + 1]), "9007199254740993"),
        (np.array([-(2**53) - 1]), "-9007199254740993"),
        (np.array([2**64 - 1], np.uint64), "18446744073709551615"),
    ],
    ids=str,
)
def test_what_json_would_change_is_refused_by_name(values, shown):
    with pytest.raises(RefusedError, match=rf"input 'size': {shown} would not survive JSON.*precompute.on: pipeline"):
        object_instances({"rooms": np.array([1] * len(values)), "size": values})


def test_the_largest_exact_integers_are_taken():
    numbers = np.array([2**53, -(2**53)])
    lines = lines_of(object_instances({"a": numbers, "b": np.abs(numbers).astype(np.uint64), "c": np.uint8([0, 255])}))
    assert lines == [{"a": 2**53, "b": 2**53, "c": 0}, {"a": -(2**53), "b": 2**53, "c": 255}]
