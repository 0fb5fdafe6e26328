"""Tables and classes change nothing: whatever the features and the network, the engine says what serving says, bit for bit."""

import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from random_models import FEATURES, KINDS, OUTPUTS, TYPES, Recipe, save_random_model

from transforms.columns import graph_inputs
from transforms.scoring import axis_tables
from transforms.scoring.classes import ClassScorer
from transforms.scoring.engine import make_engine
from transforms.scoring.factoring import FactoredScorer
from transforms.scoring.scorer_choice import choose_scorer
from transforms.scoring.serving import ServingScorer, load_model
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.input_space import InputSpace

WORD = Axis("word", "values", pa.table({"word": ["a", "b", "zz", "other", None, "d"]}))
SIZE = Axis("size", "range", pa.table({"size": pa.array([*(np.arange(-900, 900) / 16), None], pa.float64())}))
COUNT = Axis("count", "range", pa.table({"count": pa.array([*range(13), None], pa.int64())}))
# 6 x 1,801 x 14 points: two blocks and a part.
SPACES = [InputSpace(axes, ("word", "size", "count")) for axes in ((WORD, SIZE, COUNT), (COUNT, SIZE, WORD))]
EXCLUDED = InputSpace(SPACES[0].axes, ("word", "size", "count"), "size > 55 AND word = 'b'")
ROW_WISE = tuple(kind for kind in KINDS if kind != "largest_in_batch")

recipes = st.builds(
    Recipe,
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6, unique=True).map(tuple),
    hidden=st.lists(st.integers(1, 40), max_size=2).map(tuple),
    activation=st.sampled_from(["relu", "tanh", "sigmoid", "gelu", "softplus", "elu"]),
    seed=st.integers(0, 1000),
)


def serve(model_dir, rows):
    """The serving signature, called directly on these rows."""
    inputs = {
        name: values.tolist() if values.dtype == object else values
        for name, values in graph_inputs(rows, TYPES).items()
    }
    return {
        name: values.numpy() for name, values in load_model(model_dir).signatures["serving_default"](**inputs).items()
    }


def assert_serves(model_dir, engine, start, stop):
    """The engine's rows of a range are the serving signature's, called once on all of them."""
    found = pa.Table.from_batches([engine.score_range(start, stop)])
    rows = pa.table(
        {name: found[name].cast(engine.space.columns(np.arange(1)).schema.field(name).type) for name in TYPES}
    )
    expected = serve(model_dir, rows)
    assert found["price"].to_numpy().tobytes() == expected["price"].tobytes()
    assert found["level"].to_pylist() == expected["level"].tolist()
    assert found["grade"].to_pylist() == [grade.decode() for grade in expected["grade"]]
    shares = np.stack([found[name].to_numpy() for name in OUTPUTS[3].columns], axis=1)
    assert shares.tobytes() == expected["shares"].tobytes()
    return rows


def assert_any_way_serves(recipe, space, start, length):
    """Full blocks, the last one, and a range anywhere: with factoring and classes on and off."""
    with tempfile.TemporaryDirectory() as directory:
        model_dir = save_random_model(directory, recipe)
        for factoring, classes in ((True, True), (True, False), (False, False)):
            engine = make_engine(space, model_dir, TYPES, OUTPUTS, factoring=factoring, classes=classes)
            for first, last in ((0, BLOCK_ROWS), (2 * BLOCK_ROWS, space.cardinality), (start, start + length)):
                assert_serves(model_dir, engine, first, last)


any_model = hypothesis.given(
    recipes, st.sampled_from([*SPACES, EXCLUDED]), st.integers(0, BLOCK_ROWS), st.integers(1, 3000)
)


@hypothesis.settings(max_examples=12, deadline=None)
@any_model
@hypothesis.example(Recipe(("vocabulary", "buckets", "hashed_cross"), (33, 10), "softplus"), SPACES[0], 7, 11)
@hypothesis.example(Recipe(("log", "number", "one_hot"), (13,), "relu"), SPACES[1], 0, 1003)
@hypothesis.example(Recipe(("largest_in_batch", "vocabulary", "log"), (8,), "tanh"), SPACES[0], 1, 77)
def test_any_model_on_any_space_equals_the_serving_signature(recipe, space, start, length):
    assert_any_way_serves(recipe, space, start, length)


@pytest.mark.slow
@hypothesis.settings(max_examples=80, deadline=None)
@any_model
def test_many_models_on_any_space_equal_the_serving_signature(recipe, space, start, length):
    assert_any_way_serves(recipe, space, start, length)


@pytest.fixture(scope="module")
def bucket_model(tmp_path_factory):
    recipe = Recipe(("vocabulary", "buckets", "hashed_cross"), (16,), "relu")
    return save_random_model(str(tmp_path_factory.mktemp("models") / "buckets"), recipe)


@pytest.mark.parametrize("space", [*SPACES, EXCLUDED], ids=["last collapsed", "first collapsed", "with exclude"])
def test_classes_collapse_what_the_graph_cannot_tell_apart(bucket_model, space):
    choice = choose_scorer(space, bucket_model, TYPES, OUTPUTS)
    assert isinstance(choice.scorer, ClassScorer)
    classes = {axis.name: len(found) for axis, found in zip(space.axes, choice.classes, strict=True)}
    # zz and other are hashed to one of two: if they meet, they are one class, and so are a and the missing value.
    assert classes == {"word": classes["word"], "size": 6, "count": 1}
    assert classes["word"] in (4, 5)
    assert choice.scorer.batches == 1
    engine = make_engine(space, bucket_model, TYPES, OUTPUTS)
    for start in range(0, space.cardinality, BLOCK_ROWS):
        assert_serves(bucket_model, engine, start, min(start + BLOCK_ROWS, space.cardinality))


@pytest.mark.parametrize(
    ("exclude", "factor"),
    [
        (None, 151_284 / (151_284 - 2 * BLOCK_ROWS)),
        ("word = 'a'", 126_070 / (126_070 - BLOCK_ROWS)),
        ("count = 3", 1.0),
    ],
)
def test_classes_save_only_in_blocks_without_excluded_points(bucket_model, exclude, factor):
    space = InputSpace(SPACES[0].axes, SPACES[0].column_names, exclude)
    choice = choose_scorer(space, bucket_model, TYPES, OUTPUTS)
    assert isinstance(choice.scorer, ClassScorer if factor > 1 else FactoredScorer)
    assert choice.factor == pytest.approx(factor, rel=0.01)


def test_switches_and_what_is_reported(bucket_model):
    space = SPACES[0]
    assert isinstance(choose_scorer(space, bucket_model, TYPES, OUTPUTS, factoring=False).scorer, ServingScorer)
    factored = choose_scorer(space, bucket_model, TYPES, OUTPUTS, classes=False)
    assert isinstance(factored.scorer, FactoredScorer)
    assert {f.name: (f.features, f.axes, f.tabulated) for f in factored.transformed} == {
        "vocabulary": (("word",), ("word",), True),
        "buckets": (("size",), ("size",), True),
        "hashed_cross": (("size", "word"), ("word", "size"), True),
    }


def test_what_mixes_the_batch_is_not_tabulated(tmp_path):
    model_dir = save_random_model(str(tmp_path), Recipe(("largest_in_batch", "vocabulary"), (4,), "relu"))
    choice = choose_scorer(SPACES[0], model_dir, TYPES, OUTPUTS)
    assert {f.name: f.tabulated for f in choice.transformed} == {"largest_in_batch": False, "vocabulary": True}
    assert [len(found) for found in choice.classes] == list(SPACES[0].shape)
    assert isinstance(choice.scorer, FactoredScorer)


def test_what_would_fill_the_memory_is_not_tabulated(tmp_path, monkeypatch):
    model_dir = save_random_model(str(tmp_path), Recipe(("one_hot", "vocabulary"), (4,), "relu"))
    # 6 words, told apart by six floats of four bytes or one integer of eight.
    for most, expected in ((144, {"one_hot", "vocabulary"}), (143, {"vocabulary"}), (47, set())):
        monkeypatch.setattr(axis_tables, "MAX_TABLE_BYTES", most)
        choice = choose_scorer(SPACES[0], model_dir, TYPES, OUTPUTS, classes=False)
        assert {feature.name for feature in choice.transformed if feature.tabulated} == expected
        assert isinstance(choice.scorer, FactoredScorer if expected else ServingScorer)
        engine = make_engine(SPACES[0], model_dir, TYPES, OUTPUTS, classes=False)
        assert_serves(model_dir, engine, 0, BLOCK_ROWS)


def test_a_network_that_mixes_the_batch_has_no_classes(tmp_path, monkeypatch, caplog):
    from random_models import RandomModel

    predict = RandomModel.predict

    def centred(self, **transformed):
        outputs = predict(self, **transformed)
        return outputs | {"price": outputs["price"] - outputs["price"][0]}

    monkeypatch.setattr(RandomModel, "predict", centred)
    model_dir = save_random_model(str(tmp_path), Recipe(("vocabulary", "buckets"), (4,), "relu"))
    choice = choose_scorer(SPACES[0], model_dir, TYPES, OUTPUTS)
    assert isinstance(choice.scorer, FactoredScorer)
    assert "a row's predictions depend on the rows beside it" in caplog.text
    engine = make_engine(SPACES[0], model_dir, TYPES, OUTPUTS)
    assert_serves(model_dir, engine, 0, BLOCK_ROWS)


def test_a_model_without_the_signatures_is_scored_as_served(tmp_path, caplog):
    import tensorflow as tf

    model_dir = save_random_model(str(tmp_path / "a"), Recipe(("vocabulary",), (4,), "relu"))
    model = tf.saved_model.load(model_dir)
    bare = str(tmp_path / "b")
    tf.saved_model.save(model, bare, signatures={"serving_default": model.signatures["serving_default"]})
    caplog.set_level("INFO")
    choice = choose_scorer(SPACES[0], bare, TYPES, OUTPUTS)
    assert isinstance(choice.scorer, ServingScorer)
    assert choice.transformed == ()
    assert "has no signatures transform and predict_transformed: scored as served" in caplog.text
    assert FEATURES["word"].may_be_missing
