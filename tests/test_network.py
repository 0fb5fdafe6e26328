"""The network: encodings, heads, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.errors import JobError
from configs.features import Embedding, OneHot
from configs.modeling import Binary, Model, Multiclass, Network, Regression
from models.network import build_model, build_network, embedding_dimensions

REGRESSION = Regression(kind="regression")
LABELS = tf.data.Dataset.from_tensor_slices(np.array([[[10.0], [20.0]], [[30.0], [40.0]]], np.float32))


class TransformedSchema:
    """What the network asks of a TFTransformOutput."""

    def __init__(self, **features):
        """Features as (dtype, shape, domain bounds or None)."""
        self._features = features

    def transformed_feature_spec(self):
        return {name: tf.io.FixedLenFeature(shape, dtype) for name, (dtype, shape, _) in self._features.items()}

    def transformed_domains(self):
        return {
            name: schema_pb2.IntDomain(min=bounds[0], max=bounds[1])
            for name, (_, _, bounds) in self._features.items()
            if bounds
        }


def network(schema, task=REGRESSION, encodings=None, **settings):
    return build_network(schema, task, Network(**settings), encodings or {}, LABELS)


@pytest.mark.parametrize(("categories", "dimensions"), [(33, 5), (100, 6), (1000, 11), (10_000, 20), (16, 4)])
def test_embedding_dimensions(categories, dimensions):
    assert embedding_dimensions(categories) == dimensions


@pytest.mark.parametrize(
    ("feature", "encoding", "width", "embedding_weights"),
    [
        ((tf.float32, [], None), None, 1, 0),
        ((tf.float32, [3], None), None, 3, 0),
        ((tf.int64, [], None), None, 1, 0),
        ((tf.int64, [], (0, 31)), None, 32, 0),
        ((tf.int64, [], (0, 32)), None, 5, 33 * 5),
        ((tf.int64, [], (0, 32)), OneHot(kind="one_hot"), 33, 0),
        ((tf.int64, [], (0, 3)), Embedding(kind="embedding", dimensions=2), 2, 4 * 2),
        ((tf.int64, [], (0, 15)), Embedding(kind="embedding"), 4, 16 * 4),
        ((tf.int64, [], (-1, 3)), None, 5, 0),
        ((tf.int64, [2], (0, 3)), None, 8, 0),
        ((tf.int64, [2], (0, 3)), Embedding(kind="embedding", dimensions=3), 6, 4 * 3),
    ],
    ids=[
        "number",
        "vector",
        "whole number",
        "few categories",
        "many categories",
        "many, one-hot declared",
        "few, embedding declared",
        "default dimensions",
        "ids from -1",
        "two ids",
        "two embedded ids",
    ],
)
def test_encodings(feature, encoding, width, embedding_weights):
    model = network(TransformedSchema(x=feature), encodings={"x": encoding} if encoding else {}, hidden=[7])
    normalization_weights = 3
    assert model.count_params() == embedding_weights + 7 * width + 7 + 7 + 1 + normalization_weights
    dtype, shape, bounds = feature
    values = np.full([4, *shape], bounds[1] if bounds else 1, dtype.as_numpy_dtype)
    assert model.predict({"x": values}, verbose=0).shape == (4, 1)


def test_every_id_of_the_domain_has_a_place_of_its_own():
    model = network(TransformedSchema(x=(tf.int64, [], (-1, 3))), hidden=[])
    kernel = model.get_layer(index=-2).kernel
    kernel.assign(np.array([[1], [2], [3], [4], [5]], np.float32))
    predictions = model.predict({"x": np.array([-1, 0, 1, 2, 3])}, verbose=0)[:, 0]
    scale, offset = np.sqrt(125.0), 25.0  # of the labels 10, 20, 30, 40
    np.testing.assert_allclose((predictions - offset) / scale, [1, 2, 3, 4, 5], rtol=1e-5)


def test_a_regression_starts_in_the_labels_units():
    model = network(TransformedSchema(x=(tf.float32, [], None)))
    assert model.predict({"x": np.zeros(1, np.float32)}, verbose=0).item() == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("task", "width", "total"),
    [
        (Binary(kind="binary"), 1, None),
        (Multiclass(kind="multiclass", classes=("a", "b", "c")), 3, 1.0),
    ],
    ids=["binary", "multiclass"],
)
def test_classification_heads_give_probabilities(task, width, total):
    model = network(TransformedSchema(x=(tf.float32, [], None)), task)
    predictions = model.predict({"x": np.array([-5, 0, 5], np.float32)}, verbose=0)
    assert predictions.shape == (3, width)
    assert ((predictions > 0) & (predictions < 1)).all()
    if total is not None:
        np.testing.assert_allclose(predictions.sum(axis=1), total, rtol=1e-6)


def test_dropout_follows_each_hidden_layer():
    model = network(TransformedSchema(x=(tf.float32, [], None)), hidden=[4, 3], dropout=0.2)
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2]


def test_strings_are_refused_by_name():
    with pytest.raises(JobError, match="preprocessing_fn: output 'w' is a string; expected ids or numbers"):
        network(TransformedSchema(w=(tf.string, [], None)))


def test_a_teams_model_must_be_one():
    with pytest.raises(
        JobError, match=r"model.build_model: 'team_functions:build_nothing': expected a Keras 3 keras.Model"
    ):
        build_model(TransformedSchema(), REGRESSION, Model(build_model="team_functions:build_nothing"), {}, LABELS)
