"""The registered copy of a SavedModel: what TF Serving calls by default says, bit for bit, what the raw signature says."""

import pathlib

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from echo_model import FEATURES, save_echo_model
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from beam_jobs.vertex.artifact import place_artifact
from beam_jobs.vertex.instances import example_instances
from beam_jobs.vertex.serving_container import artifact_uri, container_spec
from configs.errors import RefusedError
from configs.vertex import ServingContainer
from transforms.columns import graph_inputs

ROW = st.fixed_dictionaries(
    {
        "word": st.none() | st.text(max_size=20).map(str.encode) | st.binary(max_size=20),
        "size": st.none() | st.floats(width=32),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
    }
)
SCHEMA = pa.schema([("word", pa.binary()), ("size", pa.float32()), ("count", pa.int64())])
AWKWARD = [
    {"word": None, "size": None, "count": None},
    {"word": "Zürich 東京 \0".encode(), "size": float("nan"), "count": 2**53 + 1},
    {"word": b"\xff\xfe\0", "size": 0.1, "count": -(2**62) - 1},
    {"word": b"", "size": float("-inf"), "count": 2**63 - 1},
    {"word": b"x", "size": -0.0, "count": 0},
    {"word": b"x", "size": 1.401298464324817e-45, "count": -1},  # the smallest float32
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save_echo_model(tmp_path_factory.mktemp("echo") / "model")


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    return place_artifact(source, str(tmp_path_factory.mktemp("run")), "0a1b")


@pytest.fixture(scope="module")
def session_of():
    """Calls a signature as TF Serving does: by the map of signatures, in a session."""
    sessions = {}

    def call(path, signature, **inputs):
        if path not in sessions:
            session = tf.compat.v1.Session(graph=tf.Graph())
            with session.graph.as_default():
                sessions[path] = session, tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def
        session, signatures = sessions[path]
        fed = {signatures[signature].inputs[name].name: values for name, values in inputs.items()}
        return session.run({name: tensor.name for name, tensor in signatures[signature].outputs.items()}, fed)

    yield call
    for session, _ in sessions.values():
        session.close()


def loaded(path, signature, **inputs):
    """Calls a signature as `tf.saved_model.load` gives it."""
    outputs = tf.saved_model.load(path).signatures[signature](**{name: tf.constant(v) for name, v in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def bits(outputs):
    return {
        name: values.tolist() if values.dtype == object else (values.dtype, values.tobytes())
        for name, values in outputs.items()
    }


def texts(rows):
    return np.array([text.encode() for text in example_instances(rows, FEATURES)["example"].to_pylist()], object)


def check(rows, raw, by_text):
    """What goes in as text comes out as it came in, and as the raw signature gives it."""
    assert bits(by_text) == bits(raw)
    expected = graph_inputs(rows, FEATURES)
    assert {name: bits({"": by_text[f"{name}_out"]}) for name in FEATURES} == {
        name: bits({"": values}) for name, values in expected.items()
    }


@given(st.lists(ROW, min_size=1, max_size=8))
def test_text_examples_by_default_say_what_the_raw_signature_says(session_of, source, folder, rows):
    rows = pa.RecordBatch.from_pylist(rows, SCHEMA)
    raw = session_of(source, "serving_default", **graph_inputs(rows, FEATURES))
    check(rows, raw, session_of(f"{folder}/1", "serving_default", example=texts(rows)))


@pytest.mark.parametrize("call", ["session_of", "loaded"])
def test_both_loaders_call_the_same(call, request, source, folder):
    """The map of signatures and the saved objects are two lists of them, and a loader reads one."""
    rows = pa.RecordBatch.from_pylist(AWKWARD, SCHEMA)
    call = request.getfixturevalue("session_of") if call == "session_of" else loaded
    raw = call(source, "serving_default", **graph_inputs(rows, FEATURES))
    check(rows, raw, call(f"{folder}/1", "serving_default", example=texts(rows)))
    check(rows, raw, call(f"{folder}/1", "serving_features", **graph_inputs(rows, FEATURES)))
    check(rows, raw, call(f"{folder}/1", "serving_text", example=texts(rows)))


def test_padding_makes_no_difference(session_of, folder):
    rows = pa.RecordBatch.from_pylist(AWKWARD, SCHEMA)
    bare = np.array([text.rstrip(b"=") for text in texts(rows)], object)
    assert any(text.endswith(b"=") for text in texts(rows))
    path = f"{folder}/1"
    expected = session_of(path, "serving_default", example=texts(rows))
    assert bits(session_of(path, "serving_default", example=bare)) == bits(expected)


def files(folder):
    root = pathlib.Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_only_the_names_of_signatures_change(source, folder):
    before, after = files(source), files(f"{folder}/1")
    assert before.keys() - after.keys() == {"fingerprint.pb"}
    assert {name for name in after if after[name] != before[name]} == {"saved_model.pb"}
    old, new = (saved_model_pb2.SavedModel.FromString(content["saved_model.pb"]) for content in (before, after))
    for model in (old, new):
        for graph in model.meta_graphs:
            graph.ClearField("signature_def")
            (root,) = [c.node_id for c in graph.object_graph_def.nodes[0].children if c.local_name == "signatures"]
            graph.object_graph_def.nodes[root].ClearField("children")
    assert new.SerializeToString(deterministic=True) == old.SerializeToString(deterministic=True)


def test_a_copy_that_is_there_is_left_alone_and_half_of_one_is_made_anew(source, tmp_path):
    folder = pathlib.Path(place_artifact(source, str(tmp_path), "0a1b"))
    assert folder == tmp_path / "vertex_model" / "0a1b"
    whole = files(folder)
    (folder / "1/variables/variables.index").write_bytes(b"somebody's")
    assert place_artifact(source, str(tmp_path), "0a1b") == str(folder)
    assert files(folder) != whole
    (folder / "1/saved_model.pb").unlink()  # which comes last, so this is one that was killed
    (folder / "1/stray").write_bytes(b"of an earlier try")
    place_artifact(source, str(tmp_path), "0a1b")
    assert files(folder) == whole


def test_another_model_lies_beside_the_first(source, tmp_path):
    first = place_artifact(source, str(tmp_path), "0a1b")
    whole = files(first)
    other = place_artifact(save_echo_model(tmp_path / "other", weight=3.0), str(tmp_path), "2c3d")
    assert files(first) == whole
    assert files(other).keys() == whole.keys()


def test_a_model_without_the_signature(tmp_path):
    model = tf.Module()
    serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(model, str(tmp_path / "old"), signatures={"serving_default": serve.get_concrete_function()})
    with pytest.raises(RefusedError, match=r"old: the model has no signature 'serving_text'; train it again with this"):
        place_artifact(str(tmp_path / "old"), str(tmp_path / "run"), "0a1b")
    with pytest.raises(RefusedError, match=r"no signature 'score'; check model\.signature"):
        place_artifact(str(tmp_path / "old"), str(tmp_path / "run"), "0a1b", "score")
    assert not (tmp_path / "run").exists()


def test_a_given_model_is_copied_as_it_is_if_its_signature_is_the_default(source, tmp_path):
    folder = place_artifact(source, str(tmp_path), "0a1b", "serving_default")
    before = files(source)
    assert files(f"{folder}/1") == {name: before[name] for name in before if name != "fingerprint.pb"}


def test_a_given_models_own_signature_becomes_the_default(session_of, tmp_path):
    model = tf.Module()
    double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(model, str(tmp_path / "given"), signatures={"score": double.get_concrete_function()})
    path = place_artifact(str(tmp_path / "given"), str(tmp_path / "run"), "0a1b", "score") + "/1"
    x = np.array([1.5], np.float32)
    for call in (session_of, loaded):
        assert call(path, "serving_default", x=x)["y"].tolist() == [3.0]
        assert call(path, "score", x=x)["y"].tolist() == [3.0]


def test_what_vertex_is_told_of_its_own_image():
    serving = ServingContainer(environment={"TF_CPP_MIN_LOG_LEVEL": "2"})
    spec = container_spec(serving)
    assert spec.image_uri == "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    assert [(each.name, each.value) for each in spec.env] == [("TF_CPP_MIN_LOG_LEVEL", "2")]
    assert not any((spec.command, spec.args, spec.ports, spec.predict_route, spec.health_route))
    assert artifact_uri(serving, "gs://b/run/vertex_model/0a1b") == "gs://b/run/vertex_model/0a1b/1"


def test_what_vertex_is_told_of_tensorflow_serving():
    serving = ServingContainer(image="europe-docker.pkg.dev/proj/images/tensorflow-serving:2.19", port=8501)
    spec = container_spec(serving)
    assert list(spec.command) == ["/usr/bin/tensorflow_model_server"]
    assert list(spec.args) == [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_name=model",
        "--model_base_path=$(AIP_STORAGE_URI)",
        "--file_system_poll_wait_seconds=31540000",
    ]
    assert (spec.predict_route, spec.health_route) == ("/v1/models/model:predict", "/v1/models/model")
    assert [port.container_port for port in spec.ports] == [8501]
    assert artifact_uri(serving, "gs://b/run/vertex_model/0a1b") == "gs://b/run/vertex_model/0a1b"


def test_an_image_of_the_teams_own_is_started_as_it_says():
    serving = ServingContainer(image="eu.gcr.io/p/ours", args=("--fast",), predict_route="/predict", health_route="/up")
    spec = container_spec(serving)
    assert (list(spec.command), list(spec.args)) == ([], ["--fast"])
    assert (spec.predict_route, spec.health_route, spec.ports[0].container_port) == ("/predict", "/up", 8080)


def test_routes_of_an_image_of_vertexs_own_are_refused():
    with pytest.raises(ValueError, match=r"expected no predict_route, port beside 'us-docker\.pkg\.dev/vertex-ai/"):
        ServingContainer(predict_route="/predict", port=8080)
