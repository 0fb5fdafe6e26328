"""The skew check finds what differs, by one bit if need be, and nothing where nothing does."""

import dataclasses
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from configs.errors import RefusedError
from transforms.evaluation.skew import (
    ShardPair,
    SkewReport,
    differing_rows,
    measure_skew,
    read_pair,
    relative_difference,
)

FEATURES = {"age": "float", "sex": "string"}
INPUTS = [tf.TensorSpec([None], tf.float32, name="age"), tf.TensorSpec([None], tf.string, name="sex")]


class Model(tf.Module):
    """Features: the age over 8 (exact in any graph), a code, the word, and a pair of numbers; the prediction may look at its batch."""

    def __init__(self, looks_at_batch: bool = False):
        super().__init__()
        self.looks_at_batch = looks_at_batch

    @tf.function(input_signature=INPUTS)
    def transform(self, age, sex):
        return {
            "age_scaled": age / 8.0,
            "sex_code": tf.cast(sex == "boy", tf.int64),
            "sex_word": tf.strings.upper(sex),
            "pair": tf.stack([age, -age], axis=1),
        }

    @tf.function(input_signature=INPUTS)
    def serve(self, age, sex):
        age = tf.where(tf.math.is_nan(age), 1.0, age)
        return {"weight": age - tf.reduce_mean(age) if self.looks_at_batch else age / 3.0, "word": sex}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for name, module in (("good", Model()), ("batchy", Model(looks_at_batch=True))):
        signatures = {"serving_default": module.serve, "transform": module.transform}
        tf.saved_model.save(module, str(folder / name), signatures=signatures)
    return {name: str(folder / name) for name in ("good", "batchy")}


def transformed(row: dict) -> dict[str, list]:
    """What training reads of a row, in plain Python and numpy."""
    age = np.float32(np.nan if row["age"] is None else row["age"])
    return {
        "age_scaled": [age / np.float32(8.0)],
        "sex_code": [int(row["sex"] == "boy")],
        "sex_word": [(row["sex"] or "").upper().encode()],
        "pair": [age, -age],
        "weight": [1.0],
    }


def example(values: dict[str, list]) -> bytes:
    def feature(items: list) -> tf.train.Feature:
        if isinstance(items[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=items))
        if isinstance(items[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=items))
        return tf.train.Feature(float_list=tf.train.FloatList(value=items))

    features = {name: feature(items) for name, items in values.items() if items}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_pair(folder: pathlib.Path, stem: str, rows: list[dict], change=lambda index, values: values) -> ShardPair:
    schema = pa.schema([("age", pa.float64()), ("sex", pa.string())])
    pair = ShardPair(str(folder / f"{stem}.parquet"), str(folder / f"{stem}.tfrecord.gz"))
    pq.write_table(pa.Table.from_pylist(rows, schema), pair.raw)
    with tf.io.TFRecordWriter(pair.transformed, "GZIP") as writer:
        for index, row in enumerate(rows):
            writer.write(example(change(index, transformed(row))))
    return pair


def some_rows(count: int) -> list[dict]:
    rng = np.random.default_rng(count)
    ages = [None if n % 9 == 0 else float(age) for n, age in enumerate(rng.normal(30, 9, count).round(2))]
    return [{"age": age, "sex": sex} for age, sex in zip(ages, rng.choice(["boy", "girl", None], count), strict=True)]


def test_no_skew_where_both_sides_are_one_graph(models, tmp_path):
    pairs = [write_pair(tmp_path, stem, some_rows(count)) for stem, count in (("train", 200), ("eval", 30))]
    report = measure_skew(models["good"], pairs, FEATURES, label="weight", rows=100)
    assert report == SkewReport(
        rows=50 + 30,  # half of the rows asked for from each shard, or all that it has
        mismatches={"age_scaled": 0, "pair": 0, "sex_code": 0, "sex_word": 0},
        single_rows=64,
        max_relative_difference=0.0,
    )
    assert report.problems == ()
    assert measure_skew(models["good"], pairs[::-1], FEATURES, label="weight", rows=100).rows == 30 + 70
    assert SkewReport.from_json(json.loads(json.dumps(dataclasses.asdict(report))) | {"format": 1}) == report


def one_bit_more(values: dict) -> dict:
    return values | {"age_scaled": [np.nextafter(values["age_scaled"][0], np.float32(np.inf))]}


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        pytest.param(one_bit_more, "age_scaled", id="last-bit"),
        pytest.param(lambda values: values | {"sex_code": [values["sex_code"][0] + 1]}, "sex_code", id="int"),
        pytest.param(lambda values: values | {"sex_word": [values["sex_word"][0] + b" "]}, "sex_word", id="bytes"),
        pytest.param(lambda values: values | {"pair": values["pair"][::-1]}, "pair", id="order-in-a-vector"),
        pytest.param(lambda values: values | {"pair": values["pair"][:1]}, "pair", id="shorter-vector"),
        pytest.param(lambda values: values | {"sex_word": []}, "sex_word", id="absent-in-a-row"),
    ],
)
def test_a_difference_is_counted_for_its_feature_in_its_rows(models, tmp_path, change, feature):
    rows = [{"age": 20.0 + n, "sex": "girl"} for n in range(40)]
    pair = write_pair(tmp_path, "train", rows, lambda index, values: change(values) if index in (3, 17) else values)
    report = measure_skew(models["good"], [pair], FEATURES, label="weight")
    assert {name: count for name, count in report.mismatches.items() if count} == {feature: 2}
    assert report.problems == (f"{feature} differs between training and serving in 2 of 40 rows",)


def test_minus_zero_is_not_zero_and_nan_is_itself():
    records = pa.RecordBatch.from_pydict({"x": pa.array([[0.0], [float("nan")]], pa.large_list(pa.float32()))})
    assert differing_rows(records, {"x": np.array([-0.0, np.nan], np.float32)}, "y") == {"x": 1}


def test_a_feature_on_one_side_only_or_of_another_type_differs_everywhere():
    ints, floats = (
        pa.array([[1], [2]], pa.large_list(pa.int64())),
        pa.array([[1.0], [2.0]], pa.large_list(pa.float32())),
    )
    records = pa.RecordBatch.from_pydict({"trained": ints, "typed": floats, "label": floats})
    served = {"typed": np.array([1, 2]), "served": np.array([1, 2])}
    assert differing_rows(records, served, "label") == {"served": 2, "trained": 2, "typed": 2}


def test_a_model_that_looks_at_its_batch_is_found_out(models, tmp_path):
    pair = write_pair(tmp_path, "train", some_rows(50))
    report = measure_skew(models["batchy"], [pair], FEATURES, label="weight")
    assert report.max_relative_difference == pytest.approx(1.0)  # alone, every row is the mean
    assert report.single_rows == 50
    (problem,) = report.problems
    assert problem == (
        "predictions one by one differ from those in a batch by 1 of their value, expected at most 1e-05: "
        "the answer depends on the rest of the batch"
    )


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param([1.0, 2.0], [1.0, 2.0], 0.0, id="equal"),
        pytest.param([4.0, 4.0], [4.0, 5.0], 0.2, id="to-the-larger"),
        pytest.param([1.0, 1e-9, 2.0], [1.0, 3e-9, 2.0], 2e-9, id="small-values-by-the-mean"),
        pytest.param([np.nan, np.inf], [np.nan, np.inf], 0.0, id="nan-is-itself"),
        pytest.param([1.0, 1.0], [1.0, np.nan], 2.0, id="nan-against-a-number"),
        pytest.param([0.0], [0.0], 0.0, id="zeros"),
        pytest.param([], [], 0.0, id="empty"),
    ],
)
def test_relative_difference(left, right, expected):
    assert relative_difference(np.array(left, np.float32), np.array(right, np.float32)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(("records", "word"), [(9, "fewer"), (11, "more")])
def test_files_that_do_not_correspond_are_refused(models, tmp_path, records, word):
    rows = some_rows(11)
    write_pair(tmp_path, "train", rows[:10])
    other = write_pair(tmp_path, "other", rows[:records])
    pair = ShardPair(str(tmp_path / "train.parquet"), other.transformed)
    with pytest.raises(RefusedError, match=rf"other.tfrecord.gz: {word} records than .*train.parquet has rows"):
        measure_skew(models["good"], [pair], FEATURES, label="weight")


def test_pairs_are_read_batch_by_batch_in_step(tmp_path):
    pair = write_pair(tmp_path, "train", some_rows(25))
    batches = list(read_pair(pair, ["age", "sex"], limit=23, batch_rows=10))
    assert [(raw.num_rows, records.num_rows) for raw, records in batches] == [(10, 10), (10, 10), (3, 3)]
    for raw, records in batches:
        expected = [transformed(row)["sex_word"] for row in raw.to_pylist()]
        assert records["sex_word"].to_pylist() == expected


def test_damaged_transformed_examples_are_refused_by_name(models, tmp_path):
    pair = write_pair(tmp_path, "train", some_rows(200))
    content = pathlib.Path(pair.transformed).read_bytes()
    for damaged in (content[: len(content) // 2], content[:40] + bytes(40) + content[80:]):
        pathlib.Path(pair.transformed).write_bytes(damaged)
        with pytest.raises(RefusedError, match=r"train\.tfrecord\.gz: "):
            measure_skew(models["good"], [pair], FEATURES, label="weight")


def test_records_that_are_no_examples_are_refused_by_name(models, tmp_path):
    pair = write_pair(tmp_path, "train", some_rows(1))
    with tf.io.TFRecordWriter(pair.transformed, "GZIP") as writer:
        writer.write(b"\xff no example")
    with pytest.raises(RefusedError, match=r"train\.tfrecord\.gz: cannot be read: "):
        measure_skew(models["good"], [pair], FEATURES, label="weight")


def test_no_examples_are_refused(models):
    with pytest.raises(RefusedError, match="no examples to compare"):
        measure_skew(models["good"], [], FEATURES, label="weight")
