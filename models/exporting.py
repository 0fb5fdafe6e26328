"""The exported model: one function under five signatures, from raw features to the prediction table's outputs.

`keras.export.ExportArchive` writes it, because a plain `tf.saved_model.save` of a Keras 3 model loads in Python and
dies in TF Serving and every other loader that opens a session.
"""

import os
import shutil
from collections.abc import Mapping

import keras
import tensorflow as tf
import tensorflow_transform as tft

from configs.features import MISSING_IN_GRAPH, ColumnType, Feature, Label
from configs.modeling import Binary, Multiclass
from configs.outputs import model_outputs
from models.network import model_inputs

Tensors = dict[str, tf.Tensor]

_GRAPH_DTYPES: dict[ColumnType, tf.DType] = {"string": tf.string, "float": tf.float32, "int": tf.int64}


def export_model(
    model: keras.Model,
    transform_output: tft.TFTransformOutput,
    features: Mapping[str, Feature],
    label: Label,
    task: object,
    model_dir: str,
) -> None:
    """Writes a SavedModel, to a temporary folder beside `model_dir` and renamed; one that was there is replaced.

    Signatures:
        serving_default: raw features by name, each `[batch_size]`, to the outputs.
        serving_examples: serialized tf.Examples, `[batch_size]`, to the outputs. A feature that is absent is missing,
            if it may be; if it may not, the call fails and names it.
        serving_text: the same in web-safe base64, with or without padding, for clients that can send no bytes: JSON has
            no NaN, no exact int64 and no bytes either.
        transform: raw features to transformed ones.
        predict_transformed: the transformed features that the model takes, to the outputs.

    Args:
        task: a multiclass one has its classes filled in.
    """
    transform_layer = transform_output.transform_features_layer()
    raw_spec = {name: tf.TensorSpec([None], _GRAPH_DTYPES[node.type], name) for name, node in features.items()}
    example_spec = {name: _example_feature(node) for name, node in features.items()}

    def transform(raw: Tensors) -> Tensors:
        return transform_layer(dict(raw))

    def predict(transformed: Tensors) -> Tensors:
        return named_outputs(model(model_inputs(model, transformed), training=False), label, task)

    def predict_examples(examples: tf.Tensor) -> Tensors:
        return predict(transform(tf.io.parse_example(examples, example_spec)))

    transformed_spec = {
        name: tf.TensorSpec([None, *feature.shape], feature.dtype, name)
        for name, feature in sorted(transform_output.transformed_feature_spec().items())
    }
    taken_spec = {spec.name: spec for spec in keras.tree.flatten(model_inputs(model, transformed_spec))}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(transform_layer)  # or its tables are not saved
    archive.add_endpoint("serving_default", lambda raw: predict(transform(raw)), input_signature=[raw_spec])
    archive.add_endpoint(
        "serving_examples", predict_examples, input_signature=[tf.TensorSpec([None], tf.string, "examples")]
    )
    archive.add_endpoint(
        "serving_text",
        lambda example: predict_examples(tf.io.decode_base64(example)),
        input_signature=[tf.TensorSpec([None], tf.string, "example")],
    )
    archive.add_endpoint("transform", transform, input_signature=[raw_spec])
    archive.add_endpoint("predict_transformed", predict, input_signature=[taken_spec])
    partial_dir = f"{model_dir.rstrip('/')}.partial"
    shutil.rmtree(partial_dir, ignore_errors=True)
    archive.write_out(partial_dir, verbose=False)
    if os.path.isdir(model_dir):
        shutil.rmtree(model_dir)
    os.rename(partial_dir, model_dir)


def named_outputs(predictions: tf.Tensor, label: Label, task: object) -> Tensors:
    """The model's predictions under the names of `configs.outputs.model_outputs`.

    Args:
        predictions: `[batch_size, 1]` or `[batch_size, num_classes]`.

    Returns:
        Each `[batch_size]`, but for the probabilities of a multiclass task, `[batch_size, num_classes]`.
    """
    if isinstance(task, Multiclass):
        class_name, probabilities = (output.name for output in model_outputs(label, task, task.classes))
        words = tf.gather(tf.constant(task.classes), tf.argmax(predictions, axis=-1))
        return {class_name: words, probabilities: predictions}
    values = tf.reshape(predictions, [-1])
    if isinstance(task, Binary):
        probability, predicted = (output.name for output in model_outputs(label, task))
        return {probability: values, predicted: tf.cast(values >= task.threshold, tf.int64)}
    (output,) = model_outputs(label, task)
    return {output.name: values}


def _example_feature(feature: Feature) -> tf.io.FixedLenFeature:
    default = MISSING_IN_GRAPH[feature.type] if feature.may_be_missing else None
    return tf.io.FixedLenFeature([], _GRAPH_DTYPES[feature.type], default)
