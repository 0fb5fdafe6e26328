"""What the job file declares about features, as tf.Transform's `preprocessing_fn`.

Missing values are replaced here, inside the graph and ahead of everything else, for a team's own function too: so
training, batch scoring and a single lookup cannot treat them differently.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import schema_inference

from configs import features as nodes
from configs.errors import JobError
from configs.features import MISSING_IN_GRAPH, Cross, Feature, FeatureTransform, transformed_name
from configs.functions import load_function

Tensors = dict[str, tf.Tensor]
PreprocessingFn = Callable[[Tensors], Tensors]

# Between the parts of a cross: a character that values do not have, so that ("a", "b_c") and ("a_b", "c") differ.
_CROSS_SEPARATOR = "\x1f"


def make_preprocessing_fn(features: Mapping[str, Feature], crosses: Sequence[Cross] = ()) -> PreprocessingFn:
    """The `preprocessing_fn` that the declared transforms and crosses make.

    Returns:
        A function from raw to transformed features, each `[batch_size]`: int64 ids with a domain for vocabularies,
        buckets and crosses, float32 for the rest. The names are those of `transformed_name` and `Cross.name`.
    """

    def preprocessing_fn(inputs: Tensors) -> Tensors:
        outputs: Tensors = {}
        for name, feature in features.items():
            for transform in feature.effective_transforms:
                output = transformed_name(name, transform)
                outputs[output] = _transform(inputs[name], transform, output)
        for cross in crosses:
            parts = [outputs[part] if part in outputs else inputs[part] for part in cross.features]
            outputs[cross.name] = _cross(parts, cross)
        return outputs

    return preprocessing_fn


def load_preprocessing_fn(reference: str) -> PreprocessingFn:
    """A team's own function: from raw features, dense tensors of `[batch_size]`, to transformed ones.

    Args:
        reference: `package.module:function`.

    Raises:
        JobError: there is no such function.
    """
    return load_function(reference, setting="preprocessing_fn")


def with_missing_replaced(features: Mapping[str, Feature], preprocessing_fn: PreprocessingFn) -> PreprocessingFn:
    """`preprocessing_fn` behind the replacement of missing values by each feature's `missing:`.

    A feature that declares none passes as it is: examples without it are bad rows, and the input space has none.
    """

    def replacing_fn(inputs: Tensors) -> Tensors:
        return preprocessing_fn({name: replace_missing(tensor, features[name]) for name, tensor in inputs.items()})

    return replacing_fn


def with_outputs_checked(preprocessing_fn: PreprocessingFn, label: str) -> PreprocessingFn:
    """`preprocessing_fn` with a check of what it returns, while the graph is traced.

    Raises:
        JobError: an output is not a dense tensor of rank 1 or more with the batch first, or has the label's name.
    """

    def checked_fn(inputs: Tensors) -> Tensors:
        outputs = preprocessing_fn(inputs)
        if not isinstance(outputs, Mapping) or not outputs:
            raise JobError(f"preprocessing_fn: expected a dictionary of tensors, got {outputs!r}")
        for name, tensor in outputs.items():
            _check_output(name, tensor, label)
        return dict(outputs)

    return checked_fn


def replace_missing(tensor: tf.Tensor, feature: Feature) -> tf.Tensor:
    """The column with the feature's `missing:` where a value is missing, `[batch_size]`."""
    if feature.missing is None:
        return tensor
    if feature.type == "float":
        missing = tf.math.is_nan(tensor)
    else:
        missing = tf.equal(tensor, tf.constant(MISSING_IN_GRAPH[feature.type], tensor.dtype))
    return tf.where(missing, tf.constant(feature.missing, tensor.dtype), tensor)


def _transform(tensor: tf.Tensor, transform: FeatureTransform, name: str) -> tf.Tensor:
    match transform:
        case nodes.Vocabulary():
            return _vocabulary_ids(_as_words(tensor), transform, name)
        case nodes.QuantileBuckets():
            return tft.bucketize(tensor, transform.count)
        case nodes.Buckets():
            return _bucket_ids(tensor, transform.edges)
    value = tf.cast(tensor, tf.float32)
    # Where the train split has one value only, tf.Transform centres a z-score on it and scales others by a sigmoid.
    match transform:
        case nodes.ZScore():
            return tft.scale_to_z_score(value)
        case nodes.Scale01():
            return tft.scale_to_0_1(value)
        case nodes.MinMax():
            return tft.scale_by_min_max(value, transform.output_min, transform.output_max)
        case nodes.Log1p():
            return tf.math.log1p(tf.maximum(value, 0.0))
    return value


def _cross(parts: Sequence[tf.Tensor], cross: Cross) -> tf.Tensor:
    words = tf.strings.join([_as_words(part) for part in parts], separator=_CROSS_SEPARATOR)
    if isinstance(cross, nodes.VocabularyCross):
        return _vocabulary_ids(words, cross, cross.name)
    ids = tft.hash_strings(words, cross.buckets)
    # tf.Transform's own mappers declare the domain of their ids this way; its hash does not.
    schema_inference.set_tensor_schema_override(ids, tf.constant(0, tf.int64), tf.constant(cross.buckets - 1, tf.int64))
    return ids


def _as_words(tensor: tf.Tensor) -> tf.Tensor:
    return tensor if tensor.dtype == tf.string else tf.strings.as_string(tensor)


def _vocabulary_ids(words: tf.Tensor, vocabulary: nodes.Vocabulary | nodes.VocabularyCross, name: str) -> tf.Tensor:
    return tft.compute_and_apply_vocabulary(
        words,
        num_oov_buckets=vocabulary.oov_buckets,
        frequency_threshold=vocabulary.min_frequency if vocabulary.min_frequency > 1 else None,
        top_k=vocabulary.top_k,
        vocab_filename=name,
    )


def _bucket_ids(tensor: tf.Tensor, edges: Sequence[float]) -> tf.Tensor:
    if tensor.dtype == tf.int64:
        # value >= 2.5 is value >= 3; as float32, numbers above 16,777,216 could fall on the wrong side of an edge.
        edges = [math.ceil(edge) for edge in edges]
    return tft.apply_buckets(tensor, tf.constant([edges], tensor.dtype))


def _check_output(name: str, tensor: object, label: str) -> None:
    if name == label:
        raise JobError(f"preprocessing_fn: output {name!r} has the label's name; expected another")
    if not isinstance(tensor, tf.Tensor):
        raise JobError(f"preprocessing_fn: output {name!r}: expected a dense tensor, got {type(tensor).__name__}")
    if tensor.shape.rank is None or tensor.shape.rank < 1 or not tensor.shape[1:].is_fully_defined():
        raise JobError(f"preprocessing_fn: output {name!r}: expected [batch_size, …] of known size, got {tensor.shape}")
    if tensor.dtype not in (tf.float32, tf.int64, tf.string):
        raise JobError(f"preprocessing_fn: output {name!r}: expected float32, int64 or string, got {tensor.dtype.name}")
