"""Models with random features and networks, of plain TensorFlow and tf.Transform's own mappers, as SavedModels.

Raw features: `word` (string), `size` (float), `count` (int), each of which may be missing.
"""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from configs.features import Feature
from configs.outputs import Output
from transforms.columns import MISSING_INT

FEATURES = {
    "word": Feature(type="string", missing="a"),
    "size": Feature(type="float", missing=1.5),
    "count": Feature(type="int", missing=2),
}
TYPES = {name: feature.type for name, feature in FEATURES.items()}
OUTPUTS = (
    Output(name="price", type="float", columns=("price",)),
    Output(name="level", type="int", columns=("level",)),
    Output(name="grade", type="string", columns=("grade",)),
    Output(name="shares", type="float", columns=("share_low", "share_mid", "share_high")),
)
RAW = [tf.TensorSpec([None], kind, name) for name, kind in zip(TYPES, (tf.string, tf.float32, tf.int64), strict=True)]
WORDS = ["a", "b", "c", "d"]
KINDS = ("vocabulary", "buckets", "z_score", "log", "number", "hashed_cross", "one_hot", "largest_in_batch", "constant")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a model is made of.

    Attributes:
        kinds: of transformed features, some of `KINDS`.
        hidden: widths of the network's layers.
        activation: name of it in `tf.nn`.
        seed: of weights and bucket boundaries.
    """

    kinds: tuple[str, ...]
    hidden: tuple[int, ...]
    activation: str
    seed: int = 0


class RandomModel(tf.Module):
    """Transforms the features by the recipe, concatenates them, and runs the network."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        random = np.random.default_rng(recipe.seed)
        initializer = tf.lookup.KeyValueTensorInitializer(WORDS, tf.range(len(WORDS), dtype=tf.int64))
        self.table = tf.lookup.StaticVocabularyTable(initializer, 2)
        self.boundaries = tf.constant([np.sort(random.uniform(-20, 20, 5)).astype(np.float32)])
        self.mean, self.scale = tf.constant(np.float32(random.normal(size=2)) + 3)
        width = sum(self.widths()[kind] for kind in recipe.kinds)
        sizes = [width, *recipe.hidden, 3]
        self.weights = [tf.Variable(random.normal(size=s) / 3, dtype=tf.float32) for s in itertools.pairwise(sizes)]
        self.biases = [tf.Variable(random.normal(size=s), dtype=tf.float32) for s in sizes[1:]]
        self.embedding = tf.Variable(random.normal(size=[len(WORDS) + 2, 3]), dtype=tf.float32)

    @staticmethod
    def widths():
        """Columns of the network's input for each kind."""
        return dict.fromkeys(KINDS, 1) | {"vocabulary": 3, "one_hot": len(WORDS) + 2}

    def transform(self, word, size, count):
        """Raw features to transformed ones."""
        word = tf.where(word == "", "a", word)
        size = tf.where(tf.math.is_nan(size), 1.5, size)
        count = tf.where(count == MISSING_INT, tf.constant(2, tf.int64), count)
        buckets = tft.apply_buckets(size, self.boundaries)
        crossed = tf.strings.join([word, tf.strings.as_string(buckets)], "_")
        made = {
            "vocabulary": self.table.lookup(word),
            "buckets": buckets,
            "z_score": (size - self.mean) / self.scale,
            "log": tf.math.log1p(tf.abs(size)),
            "number": tf.cast(count, tf.float32) / 7.0,
            "hashed_cross": tf.strings.to_hash_bucket_fast(crossed, 5),
            "one_hot": tf.one_hot(self.table.lookup(word), len(WORDS) + 2),
            "largest_in_batch": size - tf.reduce_max(size),
            "constant": tf.ones_like(size),
        }
        return {kind: made[kind] for kind in self.recipe.kinds}

    def predict(self, **transformed):
        """Transformed features to outputs."""
        parts = []
        for kind in self.recipe.kinds:
            values = transformed[kind]
            if kind == "vocabulary":
                parts.append(tf.gather(self.embedding, values))
            else:
                parts.append(tf.reshape(tf.cast(values, tf.float32), [-1, self.widths()[kind]]))
        layer = tf.concat(parts, axis=1)
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layer = getattr(tf.nn, self.recipe.activation)(tf.nn.bias_add(layer @ weights, biases))
        last = tf.nn.bias_add(layer @ self.weights[-1], self.biases[-1])
        return {
            "price": last[:, 0],
            "level": tf.cast(tf.argmax(last, axis=1), tf.int64),
            "grade": tf.where(last[:, 1] < 0.0, "low", "hoch ü"),
            "shares": tf.nn.softmax(last),
        }


def save_random_model(directory: str, recipe: Recipe) -> str:
    """Writes the SavedModel with the signatures that `models.exporting` writes, and returns its folder."""
    model = RandomModel(recipe)
    transform = tf.function(model.transform, input_signature=RAW).get_concrete_function()
    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in transform.structured_outputs.items()
    }
    serve = tf.function(lambda word, size, count: model.predict(**model.transform(word, size, count)))
    missing = {"word": b"", "size": float("nan"), "count": MISSING_INT}
    spec = {raw.name: tf.io.FixedLenFeature([], raw.dtype, missing[raw.name]) for raw in RAW}
    serve_text = tf.function(lambda example: serve(**tf.io.parse_example(tf.io.decode_base64(example), spec)))
    signatures = {
        "serving_default": serve.get_concrete_function(*RAW),
        "serving_text": serve_text.get_concrete_function(tf.TensorSpec([None], tf.string, "example")),
        "transform": transform,
        "predict_transformed": tf.function(model.predict).get_concrete_function(**specs),
    }
    tf.saved_model.save(model, directory, signatures=signatures)
    return directory
