"""A SavedModel that gives its inputs back, under the signatures that a model of ours is registered with."""

from typing import ClassVar

import tensorflow as tf

from configs.features import MISSING_IN_GRAPH, ColumnType

FEATURES: dict[str, ColumnType] = {"word": "string", "size": "float", "count": "int"}
_DTYPES = {"string": tf.string, "float": tf.float32, "int": tf.int64}


class EchoModel(tf.Module):
    """Outputs `word`, `size` and `count` as they came in, and what a weight makes of the size."""

    SPECS: ClassVar = {name: tf.TensorSpec([None], _DTYPES[kind], name) for name, kind in FEATURES.items()}
    EXAMPLE: ClassVar = {
        name: tf.io.FixedLenFeature([], _DTYPES[kind], MISSING_IN_GRAPH[kind]) for name, kind in FEATURES.items()
    }

    def __init__(self, weight, outputs):
        super().__init__()
        self.weight, self.outputs = tf.Variable(weight), outputs

    @tf.function(input_signature=[SPECS["word"], SPECS["size"], SPECS["count"]])
    def serve(self, word, size, count):
        """Takes raw features."""
        scaled = tf.where(tf.math.is_nan(size), -1.0, size * self.weight)
        given = {"word_out": word, "size_out": size, "count_out": count, "scaled": scaled}
        return {name: given[name] for name in self.outputs}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "example")])
    def serve_text(self, example):
        """Takes tf.Examples in web-safe base64."""
        return self.serve(**tf.io.parse_example(tf.io.decode_base64(example), self.EXAMPLE))


def save_echo_model(directory, weight=2.0, outputs=("word_out", "size_out", "count_out", "scaled")):
    """Writes the SavedModel and returns its folder."""
    model = EchoModel(weight, outputs)
    signatures = {
        "serving_default": model.serve.get_concrete_function(),
        "serving_text": model.serve_text.get_concrete_function(),
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)
    return str(directory)
