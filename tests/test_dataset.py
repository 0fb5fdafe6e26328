"""Transformed examples as batches: every row once, in an order that the seed decides."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ForetableError
from models import dataset
from models.dataset import open_split
from transforms.preprocessing.transformed_examples import encode_examples, write_records

SPEC = {
    "age": tf.io.FixedLenFeature([], tf.float32),
    "ids": tf.io.FixedLenFeature([2], tf.int64),
    "word": tf.io.FixedLenFeature([], tf.string),
}
ROWS = 100
COLUMNS = {
    "age": np.arange(ROWS, dtype=np.float32),
    "ids": np.arange(2 * ROWS).reshape(ROWS, 2),
    "word": np.array([b"w%d" % row for row in range(ROWS)], object),
    "weight": np.arange(ROWS, dtype=np.float32) / 10,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformed_examples")
    records = encode_examples(COLUMNS)
    for index, start in enumerate((0, 40, 80)):
        write_records(str(folder / f"train-00000-{index:05d}.tfrecord.gz"), records[start : start + 40])
    return str(folder)


@pytest.fixture(scope="module", params=[1 << 30, 0], ids=["in memory", "streamed"])
def split(request, folder):
    split = open_split(folder, "train", SPEC, "weight", memory_limit_bytes=request.param)
    assert (split.columns is None) == (request.param == 0)
    return split


def rows_of(batches):
    parts = [{**features, "weight": label[:, 0]} for features, label in batches.as_numpy_iterator()]
    return {name: np.concatenate([part[name] for part in parts]).tolist() for name in COLUMNS}


def test_rows_keep_their_order_without_a_seed(split):
    assert rows_of(split.batches(33)) == {name: values.tolist() for name, values in COLUMNS.items()}


def test_batches_have_their_shapes(split):
    features, label = next(split.batches(33).as_numpy_iterator())
    shapes = {"age": (33,), "ids": (33, 2), "word": (33,)}
    assert {name: values.shape for name, values in features.items()} == shapes
    assert label.shape == (33, 1)
    assert [len(label) for _, label in split.batches(33).as_numpy_iterator()] == [33, 33, 33, 1]


def test_the_rows_that_make_no_whole_batch_can_be_left_out(split):
    assert split.rows() == 100
    batches = split.batches(33, drop_remainder=True)
    assert batches.element_spec[1].shape == (33, 1)
    assert rows_of(batches) == {name: values[:99].tolist() for name, values in COLUMNS.items()}


def test_a_shuffled_epoch_has_each_row_once_and_whole(split):
    rows = rows_of(split.batches(33, tf.Variable(1, dtype=tf.int64)))
    assert rows["age"] != COLUMNS["age"].tolist()
    order = np.array(rows["age"], int)
    assert {name: values[order].tolist() for name, values in COLUMNS.items()} == rows


def test_the_seed_when_an_epoch_begins_decides_its_order_and_nothing_else_does(split):
    seed = tf.Variable(0, dtype=tf.int64)
    batches = split.batches(33, seed)

    def epoch(number):
        seed.assign(number)
        return rows_of(batches)["age"]

    first = [epoch(number) for number in (1, 2)]
    assert first[0] != first[1]
    tf.random.set_seed(5)
    assert epoch(2) == first[1]  # without the epoch before it
    assert epoch(1) == first[0]


def test_labels(split):
    np.testing.assert_array_equal(np.concatenate(list(split.labels().as_numpy_iterator())), COLUMNS["weight"][:, None])


def test_the_memory_limit_counts_what_is_decoded(folder):
    decoded = sum(values.nbytes for values in COLUMNS.values()) + sum(map(len, COLUMNS["word"]))
    assert open_split(folder, "train", SPEC, "weight", memory_limit_bytes=decoded).columns is not None
    assert open_split(folder, "train", SPEC, "weight", memory_limit_bytes=decoded - 1).columns is None


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 130), parse_rows=st.integers(1, 130))
def test_batch_sizes_do_not_change_the_rows(folder, batch_size, parse_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "PARSE_ROWS", parse_rows)
        assert rows_of(open_split(folder, "train", SPEC, "weight").batches(batch_size))["age"] == list(range(ROWS))


def test_no_shards(folder):
    with pytest.raises(
        ForetableError, match=r"eval-\*\.tfrecord\.gz: no transformed examples here; run foretable prepare"
    ):
        open_split(folder, "eval", SPEC, "weight")
