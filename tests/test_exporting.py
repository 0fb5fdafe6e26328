"""The exported model under both loaders and all five signatures, with missing values and unseen words."""

import base64

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from run_directories import NATALITY, feature_rows, feature_types, natality_job, natality_rows, prepare

from configs.errors import JobError
from configs.features import Label
from configs.modeling import Binary, Multiclass, Regression
from models.exporting import named_outputs
from models.trainer import train
from transforms.columns import MISSING_INT, graph_inputs
from transforms.preprocessing.transformed_examples import transform_batch

JOB = natality_job()
# A row as in the examples, unseen words, everything missing that may be, and the same row with the missing values spelled out.
ROWS = feature_rows(
    JOB,
    is_male=["True", "nonsense", "False", "False"],
    mother_age=[29.0, 61.0, None, 27.0],
    plurality=["Twins(2)", "Octuplets(8)", None, "Single(1)"],
    siblings=[1, 99, None, 0],
)
RAW = graph_inputs(ROWS, feature_types(JOB))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = prepare(tmp_path_factory.mktemp("run"), JOB, natality_rows(600), natality_rows(100, seed=1))
    train(JOB, str(run_dir), str(run_dir / "model"))
    return run_dir


@pytest.fixture(scope="module")
def model(run_dir):
    return tf.saved_model.load(str(run_dir / "model"))


def call(model, signature, **inputs):
    outputs = model.signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def serialized(rows, drop_missing=True):
    examples = []
    for row in rows.to_pylist():
        example = tf.train.Example()
        for name, value in row.items():
            feature = example.features.feature
            if value is None and drop_missing:
                continue
            if isinstance(value, str):
                feature[name].bytes_list.value.append(value.encode())
            elif isinstance(value, float):
                feature[name].float_list.value.append(value)
            else:
                feature[name].int64_list.value.append(value)
        examples.append(example.SerializeToString())
    return np.array(examples, object)


def texts(rows):
    """The same for JSON: as `models.exporting` says, with padding or without."""
    encoded = [base64.urlsafe_b64encode(example) for example in serialized(rows)]
    return np.array([text.rstrip(b"=") if row % 2 else text for row, text in enumerate(encoded)], object)


def test_serving_default_takes_named_raw_columns(model):
    outputs = call(model, "serving_default", **RAW)
    assert list(outputs) == ["weight_pounds"]
    weights = outputs["weight_pounds"]
    assert (weights.shape, weights.dtype) == ((4,), np.float32)
    assert np.isfinite(weights).all()
    assert weights[2] == weights[3]  # a missing value is the declared one, bit for bit
    _, named = model.signatures["serving_default"].structured_input_signature
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in named.items()} == {
        "is_male": (tf.string, [None]),
        "mother_age": (tf.float32, [None]),
        "plurality": (tf.string, [None]),
        "siblings": (tf.int64, [None]),
    }


def test_the_model_learned_what_the_rows_say(model):
    rows = natality_rows(500, seed=2)
    weights = call(model, "serving_default", **graph_inputs(rows, feature_types(JOB)))["weight_pounds"]
    label = rows["weight_pounds"].to_numpy()
    assert np.abs(weights - label).mean() < 0.8 * np.abs(np.median(label) - label).mean()


def test_all_signatures_agree(model):
    direct = call(model, "serving_default", **RAW)["weight_pounds"]
    features = call(model, "transform", **RAW)
    taken = model.signatures["predict_transformed"].structured_input_signature[1]
    stepwise = call(model, "predict_transformed", **{name: features[name] for name in taken})["weight_pounds"]
    examples = call(model, "serving_examples", examples=serialized(ROWS))["weight_pounds"]
    text = call(model, "serving_text", example=texts(ROWS))["weight_pounds"]
    assert direct.tolist() == stepwise.tolist() == examples.tolist() == text.tolist()


def test_transform_is_the_graph_that_training_read(model, run_dir):
    layer = tft.TFTransformOutput(str(run_dir / "transform_output")).transform_features_layer()
    rows = ROWS.append_column("weight_pounds", pa.array([0.0] * 4)).combine_chunks().to_batches()[0]
    features = call(model, "transform", **RAW)
    for row, record in enumerate(transform_batch(layer, rows, feature_types(JOB), "weight_pounds")):
        read = tf.train.Example.FromString(record).features.feature
        for name, values in features.items():
            kind = read[name].float_list if values.dtype == np.float32 else read[name].int64_list
            assert np.array(kind.value, values.dtype).tobytes() == values[row].tobytes(), name


def test_a_session_as_tf_serving_opens_it_gives_the_same(model, run_dir):
    features = call(model, "transform", **RAW)
    feeds = {"serving_default": RAW, "transform": RAW, "serving_examples": {"examples": serialized(ROWS)}}
    feeds |= {"predict_transformed": features, "serving_text": {"example": texts(ROWS)}}
    expected = call(model, "serving_default", **RAW)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(run_dir / "model")).signature_def
        for name, inputs in feeds.items():
            signature = signatures[name]
            outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
            fed = {tensor.name: inputs[key] for key, tensor in signature.inputs.items()}
            got = session.run(outputs, fed)
            wanted = features if name == "transform" else expected
            assert sorted(got) == sorted(wanted)
            for key, values in got.items():
                # A session folds constants its own way, so floats may differ in the last bit; ids may not.
                rtol = 1e-6 if values.dtype == np.float32 else 0
                np.testing.assert_allclose(values, wanted[key], rtol=rtol, err_msg=f"{name} {key}")


def test_absent_features_of_examples_are_missing_if_they_may_be(model):
    (weight,) = call(model, "serving_examples", examples=serialized(ROWS.slice(2, 1)))["weight_pounds"]
    assert weight == call(model, "serving_default", **RAW)["weight_pounds"][3]
    without = ROWS.slice(0, 1).drop_columns(["is_male"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: is_male"):
        call(model, "serving_examples", examples=serialized(without))


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_any_batch_size(model, rows):
    raw = {name: np.resize(values, rows) for name, values in RAW.items()}
    weights = call(model, "serving_default", **raw)["weight_pounds"]
    # TensorFlow's kernels differ in the last bit between small batches and large ones.
    np.testing.assert_allclose(
        weights, np.resize(call(model, "serving_default", **RAW)["weight_pounds"], rows), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "value", "as_missing"),
    [("siblings", MISSING_INT, 0), ("plurality", b"", b"Single(1)"), ("mother_age", np.float32("nan"), np.float32(27))],
)
def test_each_markers_meaning(model, name, value, as_missing):
    row = {feature: values[:1] for feature, values in RAW.items()}
    marked = call(model, "serving_default", **{**row, name: np.array([value])})
    spelled_out = call(model, "serving_default", **{**row, name: np.array([as_missing])})
    assert marked["weight_pounds"].tolist() == spelled_out["weight_pounds"].tolist()


def test_an_export_replaces_the_one_before_and_leaves_nothing_beside_it(run_dir):
    assert (run_dir / "model/saved_model.pb").is_file()
    assert not list(run_dir.glob("model.*"))


PROBABILITIES = tf.constant([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])


@pytest.mark.parametrize(
    ("task", "predictions", "expected"),
    [
        (Regression(kind="regression"), [[1.5], [2.5]], {"y": [1.5, 2.5]}),
        (Binary(kind="binary", threshold=0.25), [[0.25], [0.125]], {"y_probability": [0.25, 0.125], "y": [1, 0]}),
        (
            Multiclass(kind="multiclass", classes=("a", "b", "c")),
            PROBABILITIES,
            {"y": [b"b", b"a"], "y_probabilities": PROBABILITIES.numpy().tolist()},
        ),
    ],
    ids=["regression", "binary", "multiclass"],
)
def test_outputs_by_task(task, predictions, expected):
    outputs = named_outputs(tf.constant(predictions), Label(name="y"), task)
    assert {name: tensor.numpy().tolist() for name, tensor in outputs.items()} == expected


def test_a_multiclass_job_with_the_train_splits_classes(tmp_path):
    def rows(count, seed):
        table = natality_rows(count, seed)
        plurality = pa.array(["twins" if word == "Twins(2)" else "one" for word in table["plurality"].to_pylist()])
        return table.drop_columns(["weight_pounds"]).append_column("kind", plurality)

    job = natality_job(task="multiclass", label={"name": "kind", "type": "string"})
    prepare(tmp_path, job, rows(300, 0), rows(50, 1))
    done = train(job, str(tmp_path), str(tmp_path / "model"))
    outputs = call(tf.saved_model.load(str(tmp_path / "model")), "serving_default", **RAW)
    assert (outputs["kind"].shape, outputs["kind_probabilities"].shape) == ((4,), (4, 2))
    assert outputs["kind"][0] == b"twins"
    assert [(b"one", b"twins")[index] for index in outputs["kind_probabilities"].argmax(1)] == outputs["kind"].tolist()
    assert done["epochs"] == 3


@pytest.mark.parametrize(
    ("build_model", "taken"),
    [
        ("build_model", {"mother_age_centered", "plurality_id"}),
        ("build_model_of_a_list", {"mother_age_centered", "plurality_id"}),
        ("build_subclassed_model", {"ages", "mother_age_centered", "plurality_id", "is_male_id"}),
    ],
)
def test_a_teams_own_model(team_run_dir, tmp_path, build_model, taken):
    job = team_job(build_model)
    train(job, str(team_run_dir), str(tmp_path / "model"))
    model = tf.saved_model.load(str(tmp_path / "model"))
    assert set(model.signatures["predict_transformed"].structured_input_signature[1]) == taken
    weights = call(model, "serving_default", **RAW)["weight_pounds"]
    assert weights.shape == (4,)
    assert weights[2] == weights[3]
    if build_model != "build_subclassed_model":  # the others' weights are set: the centred age, plus 100 for twins
        centre = natality_rows(100)["mother_age"].fill_null(27).to_numpy().mean()
        np.testing.assert_allclose(weights, np.array([129, 61, 27, 27]) - centre, rtol=1e-5)


def test_a_teams_model_with_an_unknown_input(team_run_dir, tmp_path):
    with pytest.raises(
        JobError, match="input 'age' is not a transformed feature; there: ages, is_male_id, mother_age_c"
    ):
        train(team_job("build_model_of_unknown_input"), str(team_run_dir), str(tmp_path / "model"))


@pytest.fixture(scope="module")
def team_run_dir(tmp_path_factory):
    job = team_job("build_model")
    return prepare(tmp_path_factory.mktemp("team"), job, natality_rows(100), natality_rows(20, seed=1))


def team_job(build_model):
    features = {
        name: {k: v for k, v in node.items() if k != "transforms"} for name, node in NATALITY["features"].items()
    }
    return natality_job(
        features=features,
        crosses=[],
        preprocessing_fn="team_functions:preprocessing_fn",
        model={"build_model": f"team_functions:{build_model}", "training": {"epochs": 1}},
    )
