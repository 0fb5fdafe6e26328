"""The words that tf.Transform found in the train split, by raw feature: what a `vocabulary: true` axis holds."""

import os

import tensorflow as tf
import tensorflow_transform as tft

from configs.errors import RefusedError

# tf.Transform writes one of these in place of an empty vocabulary, because a lookup table cannot be empty.
_EMPTY_VOCABULARY = ([b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"], [b"-1"])


def vocabulary_words(transform_output_dir: str, feature: str) -> list[str]:
    """Words of a raw feature, by falling frequency in the train split.

    Args:
        transform_output_dir: a local folder.
        feature: its vocabulary is called `<feature>_vocabulary`, or, from a team's own preprocessing function, like the
            feature itself.

    Returns:
        The words, in the order of their ids; those of an int feature are its values' text.

    Raises:
        RefusedError: the transform graph has no such vocabulary.
    """
    transform_output = tft.TFTransformOutput(transform_output_dir)
    for name in (f"{feature}_vocabulary", feature):
        if transform_output.vocabulary_file_by_name(name) is not None:
            words = transform_output.vocabulary_by_name(name)
            return [] if words in _EMPTY_VOCABULARY else [word.decode() for word in words]
    there = ", ".join(_vocabulary_names(transform_output)) or "none"
    raise RefusedError(
        f"{feature}: the transform graph has no vocabulary of this name or '{feature}_vocabulary'; there: {there}"
    )


def _vocabulary_names(transform_output: tft.TFTransformOutput) -> list[str]:
    assets = os.path.join(transform_output.transform_savedmodel_dir, tf.saved_model.ASSETS_DIRECTORY)
    return sorted(os.listdir(assets)) if os.path.isdir(assets) else []
