"""Transformed examples: rows in order, bytes that repeat, labels."""

import hashlib

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from run_directories import analyze, feature_types, natality_job, natality_rows, write_shards

from configs.errors import RefusedError
from transforms.preprocessing.transformed_examples import (
    TransformedShard,
    TransformExamples,
    encode_examples,
    label_column,
    write_records,
)

JOB = natality_job()
TRAIN, EVAL = natality_rows(150), natality_rows(30, seed=1)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    write_shards(run_dir, "train", TRAIN.slice(0, 100), TRAIN.slice(100))
    write_shards(run_dir, "eval", EVAL)
    analyze(run_dir, JOB)
    return run_dir


def transform(run_dir, name):
    transform_examples = TransformExamples(
        feature_types(JOB),
        "weight_pounds",
        None,
        str(run_dir / "examples"),
        str(run_dir / "transform_output"),
        str(run_dir / name),
    )
    with beam.Pipeline() as pipeline:
        expected = [("train-00000-00000", 100), ("train-00000-00001", 50), ("eval-00000-00000", 30)]
        shards = pipeline | transform_examples
        assert_that(shards, equal_to([TransformedShard(name, rows) for name, rows in expected]))
    return run_dir / name


def read_examples(path):
    return [
        tf.train.Example.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    ]


def test_each_shard_has_its_rows_in_order_and_the_same_bytes_every_time(run_dir):
    first, second = transform(run_dir, "first"), transform(run_dir, "second")
    names = ["eval-00000-00000.tfrecord.gz", "train-00000-00000.tfrecord.gz", "train-00000-00001.tfrecord.gz"]
    assert sorted(path.name for path in first.iterdir()) == names  # nothing partial among them
    for name in names:
        digests = {hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (first, second)}
        assert len(digests) == 1, name
    for name, rows in zip(names, [EVAL, TRAIN.slice(0, 100), TRAIN.slice(100)], strict=True):
        features = [example.features.feature for example in read_examples(first / name)]
        weights = [feature["weight_pounds"].float_list.value[0] for feature in features]
        assert weights == rows["weight_pounds"].cast(pa.float32()).to_pylist()
        siblings = [feature["siblings_log1p"].float_list.value[0] for feature in features]
        np.testing.assert_allclose(siblings, np.log1p(rows["siblings"].fill_null(0).to_numpy()), rtol=1e-6)
        assert sorted(features[0]) == [
            "is_male_vocabulary",
            "mother_age_quantile_buckets",
            "mother_age_z_score",
            "plurality_vocabulary",
            "plurality_x_is_male",
            "siblings_log1p",
            "siblings_vocabulary",
            "weight_pounds",
        ]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 5), width=st.integers(1, 40))
def test_encoding_is_protobufs_deterministic_one(data, rows, width):
    floats = data.draw(hnp.arrays(np.float32, (rows, width)))
    integers = data.draw(hnp.arrays(np.int64, rows))
    words = np.array(data.draw(st.lists(st.binary(max_size=200), min_size=rows, max_size=rows)), object)
    for row, encoded in enumerate(encode_examples({"w": words, "f": floats, "i": integers})):
        example = tf.train.Example()
        example.features.feature["f"].float_list.value.extend(floats[row])
        example.features.feature["i"].int64_list.value.append(integers[row])
        example.features.feature["w"].bytes_list.value.append(words[row])
        assert encoded == example.SerializeToString(deterministic=True)


def test_labels():
    assert label_column(pa.array([1, 0, 1]), "tip", None).tolist() == [1.0, 0.0, 1.0]
    assert label_column(pa.array([0.1]), "fare", None).dtype == np.float32
    ids = label_column(pa.array(["b", "c", "a"]), "kind", ("c", "b", "a"))
    assert (ids.dtype, ids.tolist()) == (np.int64, [1, 0, 2])
    assert label_column(pa.array([10, 9]), "stars", ("9", "10")).tolist() == [1, 0]


@pytest.mark.parametrize(("value", "classes"), [("x", ("a", "b")), (None, ("a", "b")), (None, None)])
def test_a_label_that_cannot_be_learned_is_refused(value, classes):
    with pytest.raises(RefusedError, match=f"label kind: {value!r}: expected"):
        label_column(pa.array(["a" if classes else "1.5", value]), "kind", classes)


def test_a_failed_write_leaves_no_file(tmp_path):
    def failing():
        yield b"record"
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        write_records(str(tmp_path / "train-0.tfrecord.gz"), failing())
    assert list(tmp_path.iterdir()) == []
