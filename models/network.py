"""The network: transformed features, each encoded as its kind asks, through a multilayer perceptron to an output."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2

from configs.errors import JobError
from configs.features import Embedding, OneHot
from configs.functions import load_function
from configs.modeling import Binary, Model, Multiclass, Network, Regression
from configs.training import Training

# From here on a one-hot vector costs the first layer more weights than an embedding does.
MAX_ONE_HOT_CATEGORIES = 32

Encodings = Mapping[str, OneHot | Embedding]


def build_model(
    transform_output: tft.TFTransformOutput, task: object, model: Model, encodings: Encodings, labels: tf.data.Dataset
) -> keras.Model:
    """The job's model, compiled: the team's own, or `build_network`'s.

    Args:
        task: a multiclass one has its classes filled in.
        labels: of the train split, `[batch_size, 1]`.

    Raises:
        JobError: `model.build_model` cannot be loaded, did not return a Keras 3 model, or one of other features.
    """
    if model.build_model is None:
        built = build_network(transform_output, task, model.network, encodings, labels)
    else:
        built = load_function(model.build_model, setting="model.build_model")(transform_output, task)
        if not isinstance(built, keras.Model):
            kind = f"{type(built).__module__}.{type(built).__name__}"
            raise JobError(f"model.build_model: {model.build_model!r}: expected a Keras 3 keras.Model, got {kind}")
    model_inputs(built, transform_output.transformed_feature_spec())  # says now what would be a stack trace later
    if not built.compiled:
        compile_model(built, task, model.training)
    return built


def build_network(
    transform_output: tft.TFTransformOutput,
    task: object,
    network: Network,
    encodings: Encodings,
    labels: tf.data.Dataset,
) -> keras.Model:
    """A multilayer perceptron over the encoded features.

    Returns:
        A model from a dictionary of transformed features, each `[batch_size, …]`, to `[batch_size, 1]` (a number in the
        label's units, or a probability) or `[batch_size, num_classes]` (probabilities).

    Raises:
        JobError: a transformed feature is a string, which no layer takes.
    """
    spec, domains = transform_output.transformed_feature_spec(), transform_output.transformed_domains()
    inputs, encoded = {}, []
    for name in sorted(spec):
        if spec[name].dtype == tf.string:
            raise JobError(
                f"preprocessing_fn: output {name!r} is a string; expected ids or numbers, or a model.build_model"
            )
        inputs[name] = keras.Input(spec[name].shape, name=name, dtype=spec[name].dtype.name)
        encoded.append(_encoded(inputs[name], domains.get(name), encodings.get(name)))
    hidden = keras.layers.Concatenate()(encoded) if len(encoded) > 1 else encoded[0]
    for units in network.hidden:
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
        if network.dropout:
            hidden = keras.layers.Dropout(network.dropout)(hidden)
    return keras.Model(inputs, _head(hidden, task, labels))


def model_inputs(model: keras.Model, transformed: Mapping[str, Any]) -> Any:
    """Those of the transformed features that the model takes, in the structure of its inputs, by the inputs' names.

    Keras matches a dictionary that has more keys than the model has inputs by position, and only warns. A subclassed
    model, which does not say what it takes, gets all.

    Args:
        transformed: by feature: tensors, or whatever stands for them.

    Raises:
        JobError: an input has no transformed feature's name.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return dict(transformed)
    for tensor in inputs:
        if tensor.name not in transformed:
            known = ", ".join(sorted(transformed))
            raise JobError(f"model.build_model: input {tensor.name!r} is not a transformed feature; there: {known}")
    chosen = keras.tree.map_structure(lambda tensor: transformed[tensor.name], model.input)
    return tuple(chosen) if isinstance(chosen, list) else chosen  # tf.data takes a list for one tensor


def compile_model(model: keras.Model, task: object, training: Training) -> None:
    """Sets the task's loss and the optimizer."""
    losses: dict[type, Any] = {
        Regression: keras.losses.MeanSquaredError,
        Binary: keras.losses.BinaryCrossentropy,
        Multiclass: keras.losses.SparseCategoricalCrossentropy,
    }
    # Small networks spend more time between steps than in them; XLA would take longer to compile than it ever saves.
    model.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=losses[type(task)](),
        steps_per_execution=32,
        jit_compile=False,
    )


def embedding_dimensions(categories: int) -> int:
    """Length of an embedding by the number of categories: twice its fourth root, as TensorFlow's guides suggest."""
    return round(2 * categories**0.25)


def _encoded(tensor: Any, domain: object, encoding: OneHot | Embedding | None) -> Any:
    """The feature as floats, `[batch_size, width]`. Ids have a domain, whose bounds hold for unseen values too."""
    if not isinstance(domain, schema_pb2.IntDomain):
        return keras.layers.Flatten()(_with_width(keras.ops.cast(tensor, "float32")))
    categories = domain.max - domain.min + 1
    ids = tensor - domain.min
    if isinstance(encoding, OneHot) or (encoding is None and categories <= MAX_ONE_HOT_CATEGORIES):
        return keras.layers.Flatten()(keras.ops.one_hot(ids, categories))
    dimensions = encoding.dimensions if isinstance(encoding, Embedding) else None
    return keras.layers.Flatten()(
        keras.layers.Embedding(categories, dimensions or embedding_dimensions(categories))(ids)
    )


def _with_width(tensor: Any) -> Any:
    return tensor if len(tensor.shape) > 1 else keras.ops.expand_dims(tensor, -1)


def _head(hidden: Any, task: object, labels: tf.data.Dataset) -> Any:
    if isinstance(task, Regression):
        # The last layer starts near 0; without this the first epochs would go on finding the label's mean and scale.
        to_label_units = keras.layers.Normalization(axis=None, invert=True)
        to_label_units.adapt(labels)
        return to_label_units(keras.layers.Dense(1)(hidden))
    if isinstance(task, Multiclass):
        return keras.layers.Dense(len(task.classes or ()), activation="softmax")(hidden)
    return keras.layers.Dense(1, activation="sigmoid")(hidden)
