"""Declared transforms against values by hand, and a team's own function."""

import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from hypothesis import given, settings
from hypothesis import strategies as st
from run_directories import analyze, natality_job, natality_rows, write_shards

from configs.errors import JobError, RefusedError
from configs.features import Feature
from configs.functions import load_function
from transforms.columns import MISSING_INT, graph_inputs
from transforms.preprocessing.functions import load_preprocessing_fn, replace_missing
from transforms.preprocessing.vocabularies import vocabulary_words

EVERY_NUMERIC = ["z_score", "scale_0_1", {"kind": "min_max", "output_min": -1, "output_max": 1}, "log1p", "identity"]
FEATURES = {
    "color": {
        "type": "string",
        "missing": "none",
        "transforms": [{"kind": "vocabulary", "oov_buckets": 2, "min_frequency": 2}],
    },
    "size": {
        "type": "float",
        "missing": 3,
        "transforms": [
            *EVERY_NUMERIC,
            {"kind": "buckets", "edges": [2.5, 4]},
            {"kind": "quantile_buckets", "count": 2},
        ],
    },
    "count": {
        "type": "int",
        "missing": 2,
        "transforms": [{"kind": "vocabulary", "top_k": 2}, {"kind": "buckets", "edges": [1.5, 16_777_217]}, "z_score"],
    },
    "constant": {"type": "float", "transforms": [*EVERY_NUMERIC, {"kind": "quantile_buckets", "count": 3}]},
    "rare": {"type": "string", "transforms": [{"kind": "vocabulary", "min_frequency": 99}]},
}
CROSSES = [
    {"kind": "hashed", "features": ["color", "size_buckets"], "buckets": 5},
    {"kind": "vocabulary", "features": ["color", "count"], "min_frequency": 2},
]
TRAIN = pa.table(
    {
        "color": ["b", "a", "b", None, "c", "b", "a", "b"],
        "size": [1.0, 2.0, 3.0, None, 5.0, -1.0, 2.0, 9.0],
        "count": [7, 7, 2, None, 5, 7, 16_777_216, 16_777_217],
        "constant": [4.0] * 8,
        "rare": list("stuvwxyz"),
        "weight_pounds": [1.0] * 8,
    }
)
TYPES = {"color": "string", "size": "float", "count": "int", "constant": "float", "rare": "string"}


class Graph:
    """A saved transform graph, called on columns."""

    def __init__(self, folder):
        self.folder = folder
        self.transform_output = tft.TFTransformOutput(folder)
        self.layer = self.transform_output.transform_features_layer()

    def __call__(self, table):
        raw = {name: tf.constant(values) for name, values in graph_inputs(table, TYPES).items()}
        return {name: tensor.numpy() for name, tensor in self.layer(raw).items()}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    axes = {name: {"values": TRAIN[name].drop_null().to_pylist()[:1]} for name in FEATURES}
    write_shards(run_dir, "train", TRAIN)
    job = natality_job(features=FEATURES, crosses=CROSSES, input_space={"axes": axes})
    return Graph(analyze(run_dir, job))


SIZES = np.array([1, 2, 3, 3, 5, -1, 2, 9], np.float32)  # the missing one is 3
COUNTS = np.array([7, 7, 2, 2, 5, 7, 16_777_216, 16_777_217])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("size_z_score", (SIZES - 3) / math.sqrt(7.75)),
        ("size_scale_0_1", (SIZES + 1) / 10),
        ("size_min_max", (SIZES + 1) / 5 - 1),
        ("size_log1p", np.log1p([1, 2, 3, 3, 5, 0, 2, 9])),
        ("size_identity", SIZES),
        ("size_buckets", [0, 0, 1, 1, 2, 0, 0, 2]),
        ("count_buckets", [1, 1, 1, 1, 1, 1, 1, 2]),
        ("count_z_score", (COUNTS - COUNTS.mean()) / COUNTS.std()),
        ("constant_z_score", np.zeros(8)),
        ("constant_identity", np.full(8, 4)),
        ("constant_scale_0_1", np.full(8, 1 / (1 + math.exp(-4)))),
        ("constant_quantile_buckets", np.full(8, 2)),
    ],
)
def test_values_by_hand(graph, name, expected):
    np.testing.assert_allclose(graph(TRAIN)[name], expected, rtol=1e-6, atol=1e-6)


def test_quantile_buckets_split_at_the_median(graph):
    # Two buckets of 8 values: the edge is the median, which lies among the values themselves.
    assert graph(TRAIN)["size_quantile_buckets"].tolist() in ([0, 0, 1, 1, 1, 0, 0, 1], [0, 1, 1, 1, 1, 0, 1, 1])


def test_vocabulary_ids_follow_frequency_and_leave_the_rest_to_oov_buckets(graph):
    ids = graph(TRAIN)["color_vocabulary"]
    assert ids[[0, 2, 5, 7]].tolist() == [0] * 4  # b, four times
    assert ids[[1, 6]].tolist() == [1] * 2  # a, twice
    assert set(ids[[3, 4]].tolist()) <= {2, 3}  # none and c, once each: below min_frequency
    assert vocabulary_words(graph.folder, "color") == ["b", "a"]
    assert vocabulary_words(graph.folder, "count") == ["7", "2"]  # top_k, whole numbers by their text


def test_an_empty_vocabulary_puts_every_word_out_of_it(graph):
    assert vocabulary_words(graph.folder, "rare") == []
    assert len(set(graph(TRAIN)["rare_vocabulary"].tolist())) == 1


def test_crosses(graph):
    outputs = graph(TRAIN)
    words = [
        f"{color or 'none'}\x1f{bucket}"
        for color, bucket in zip(TRAIN["color"].to_pylist(), outputs["size_buckets"], strict=True)
    ]
    assert outputs["color_x_size_buckets"].tolist() == tf.strings.to_hash_bucket_fast(words, 5).numpy().tolist()
    # (b, 7) comes twice, every other pair once; what is out of the vocabulary follows.
    assert outputs["color_x_count"].tolist() == [0, 1, 1, 1, 1, 0, 1, 1]
    assert graph.transform_output.vocabulary_by_name("color_x_count") == [b"b\x1f7"]


def test_unseen_and_missing_values_stay_inside_the_domains(graph):
    unseen = TRAIN.slice(0, 2).to_pydict() | {
        "color": ["nonsense", None],
        "size": [1e30, None],
        "count": [-(2**62), None],
    }
    outputs, domains = graph(pa.table(unseen, TRAIN.schema)), graph.transform_output.transformed_domains()
    ids = {name for name, values in outputs.items() if values.dtype == np.int64}
    assert (
        set(domains)
        == ids
        == {name for name in outputs if name.rpartition("_")[2] in ("vocabulary", "buckets", "count")}
    )
    for name in ids:
        assert domains[name].min == 0
        assert outputs[name].min() >= 0, name
        assert outputs[name].max() <= domains[name].max, name


@settings(max_examples=50, deadline=None)
@given(
    size=st.none() | st.floats(-(2.0**100), 2.0**100, width=32),
    count=st.none() | st.integers(MISSING_INT + 1, 2**63 - 1),
    color=st.none() | st.text(),
    constant=st.floats(-(2.0**100), 2.0**100, width=32),
)
def test_no_row_gives_anything_but_finite_numbers(graph, size, count, color, constant):
    row = pa.table({"color": [color], "size": [size], "count": [count], "constant": [constant], "rare": ["s"]})
    row = row.cast(pa.schema([(name, TRAIN.schema.field(name).type) for name in row.column_names]))
    assert all(np.isfinite(values).all() for values in graph(row).values())


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        ({"type": "float", "missing": 1.5}, np.array([np.nan, 2], np.float32), [1.5, 2]),
        ({"type": "int", "missing": -1}, np.array([MISSING_INT, 0]), [-1, 0]),
        ({"type": "string", "missing": "né"}, np.array([b"", b"x"]), ["né".encode(), b"x"]),
        ({"type": "int"}, np.array([MISSING_INT, 0]), [MISSING_INT, 0]),
    ],
    ids=["float", "int", "string", "none declared"],
)
def test_replace_missing(feature, values, expected):
    assert replace_missing(tf.constant(values), Feature.model_validate(feature)).numpy().tolist() == expected


def test_vocabulary_words_of_a_feature_without_one(graph):
    with pytest.raises(
        RefusedError, match=r"size: the transform graph has no vocabulary .*; there: .*color_vocabulary"
    ):
        vocabulary_words(graph.folder, "size")


def test_a_teams_own_function_gets_replaced_values_and_may_analyze(tmp_path):
    job = team_job("team_functions:preprocessing_fn")
    rows = natality_rows(50)
    write_shards(tmp_path, "train", rows)
    transform_output = tft.TFTransformOutput(analyze(tmp_path, job))
    types = {name: feature.type for name, feature in job.features.items()}
    raw = {name: tf.constant(values) for name, values in graph_inputs(rows, types).items()}
    outputs = transform_output.transform_features_layer()(raw)
    ages = rows["mother_age"].fill_null(27).to_numpy()
    np.testing.assert_allclose(outputs["mother_age_centered"], ages - ages.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["ages"], np.stack([ages / 10, rows["siblings"].fill_null(0)], 1), rtol=1e-6)
    assert set(vocabulary_words(str(tmp_path / "transform_output"), "plurality")) == {"Single(1)", "Twins(2)"}
    assert set(vocabulary_words(str(tmp_path / "transform_output"), "is_male")) == {"True", "False", "Unknown"}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("sparse_preprocessing_fn", "preprocessing_fn: output 'words': expected a dense tensor, got SparseTensor"),
        ("label_preprocessing_fn", "preprocessing_fn: output 'weight_pounds' has the label's name"),
    ],
)
def test_outputs_that_cannot_be_used_are_refused_by_name(tmp_path, function, message):
    write_shards(tmp_path, "train", natality_rows(5))
    with pytest.raises(JobError, match=message):
        analyze(tmp_path, team_job(f"team_functions:{function}"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module:f", "cannot import no_such_module: No module named 'no_such_module'"),
        ("team_functions:nothing", "expected a function 'nothing' in .*team_functions.py"),
    ],
)
def test_a_function_that_is_not_there(reference, message):
    with pytest.raises(JobError, match=rf"^preprocessing_fn: '{reference}': {message}"):
        load_preprocessing_fn(reference)


def test_functions_in_the_working_directory_are_found(tmp_path, monkeypatch):
    (tmp_path / "own_module_of_a_team.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    assert load_function("own_module_of_a_team:double", "preprocessing_fn")(21) == 42


def team_job(reference):
    features = {
        "is_male": {"type": "string"},
        "mother_age": {"type": "float", "missing": 27},
        "plurality": {"type": "string", "missing": "Single(1)"},
        "siblings": {"type": "int", "missing": 0},
    }
    return natality_job(features=features, crosses=[], preprocessing_fn=reference)
