"""TFRecord files of tf.Example, written by TensorFlow itself."""

import gzip

import pytest
import tensorflow as tf

from configs.errors import RefusedError
from configs.sources import TFRecordSource
from transforms.examples.readers import tfrecord_file
from transforms.examples.readers.rows import BadRow, Expected

EXPECTED = Expected({"word": "string", "x": "float", "n": "int"})


def example(**features):
    kinds = {bytes: ("bytes_list", tf.train.BytesList), float: ("float_list", tf.train.FloatList)}
    feature = {}
    for name, values in features.items():
        field, list_type = kinds.get(type(values[0]) if values else bytes, ("int64_list", tf.train.Int64List))
        feature[name] = tf.train.Feature(**{field: list_type(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for record in records:
            writer.write(record)
    return path


def read(path, batch_rows=65_536):
    pieces = list(tfrecord_file.read(str(path), EXPECTED, TFRecordSource(kind="tfrecord", files=str(path)), batch_rows))
    batches = [piece for piece in pieces if not isinstance(piece, BadRow)]
    assert all(batch.schema == EXPECTED.schema for batch in batches)
    rows = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    return rows, [(piece.line, piece.column, piece.reason) for piece in pieces if isinstance(piece, BadRow)]


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_reads_examples_with_absent_and_empty_features_missing(tmp_path, name):
    records = [
        example(word=[b"a"], x=[1.5], n=[1], other=[b"?", b"?"]),
        example(word=[], n=[2]),
        example(),
        example(word=["é".encode()], x=[float("nan")], n=[2**62]),
    ]
    path = write(tmp_path / name, records)
    expected = [("a", 1.5, 1), (None, None, 2), (None, None, None), ("é", None, 2**62)]
    assert read(path) == (expected, [])
    assert read(path, batch_rows=3) == (expected, [])


def test_sets_aside_what_is_not_one_value_of_the_type(tmp_path):
    records = [
        example(word=[b"a"], x=[1.0], n=[1]),
        example(x=[1.0, 2.0]),
        example(x=[b"1.0"]),
        b"not an example \xff",
        example(word=[b"\xff"]),
        example(n=[4.0], x=[4]),
        example(n=[4.5]),
        example(word=[b"z"], x=[9.0], n=[9]),
    ]
    rows, bad_rows = read(write(tmp_path / "a.tfrecord", records))
    assert rows == [("a", 1.0, 1), (None, 4.0, 4), ("z", 9.0, 9)]
    assert sorted(bad_rows) == [
        (2, "x", "expected one value, got 2"),
        (3, "x", "expected a number, got large_binary"),
        (4, "", "not a tf.Example"),
        (5, "word", "expected UTF-8 text, got large_binary"),
        (7, "n", "expected a whole number, got float"),
    ]


def test_refuses_truncated_and_corrupt_files(tmp_path):
    records = [example(n=[number]) for number in range(1000)]
    plain = write(tmp_path / "a.tfrecord", records).read_bytes()
    for broken, record in ((plain[:-3], 999), (plain[:-20], 999), (plain[:40] + b"\x00" + plain[41:], r"\d")):
        (tmp_path / "a.tfrecord").write_bytes(broken)
        with pytest.raises(RefusedError, match=rf"a.tfrecord: truncated or corrupt after record {record}"):
            read(tmp_path / "a.tfrecord")
    (tmp_path / "b.tfrecord.gz").write_bytes(gzip.compress(plain)[:-9])
    with pytest.raises(RefusedError, match=r"b.tfrecord.gz: cannot be read; truncated or corrupt"):
        read(tmp_path / "b.tfrecord.gz")
