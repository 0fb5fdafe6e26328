"""Transformed examples as batches for training, in an order that the seed alone decides.

A split that fits into memory is decoded once and shuffled as a whole each epoch by its row numbers; gathering columns
is many times faster than passing rows one by one. A larger split is streamed through a shuffle buffer.
"""

import dataclasses
import glob
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from configs.errors import ForetableError

MEMORY_LIMIT_BYTES = 1 << 30
PARSE_ROWS = 8_192
SHUFFLE_BUFFER_ROWS = 262_144

FeatureSpec = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TransformedSplit:
    """One split of the transformed examples.

    Attributes:
        files: gzip TFRecord shards of tf.Example, in order.
        feature_spec: of the transformed features and the label.
        columns: the decoded columns, each `[num_rows, …]`, where they fit into memory.
    """

    files: tuple[str, ...]
    feature_spec: FeatureSpec
    label_name: str
    columns: Mapping[str, np.ndarray] | None

    def batches(self, batch_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
        """Pairs of transformed features, each `[batch_size, …]`, and labels, `[batch_size, 1]`; one epoch, all rows.

        Args:
            shuffle_seed: another order each epoch, the same orders for the same seed; None keeps the rows' own order.
        """
        if self.columns is None:
            parsed = self._streamed(batch_size, shuffle_seed)
        else:
            parsed = self._gathered(self.columns, batch_size, shuffle_seed)
        return parsed.map(self._split_label, tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)

    def labels(self) -> tf.data.Dataset:
        """All labels in order, `[batch_size, 1]`."""
        return self.batches(PARSE_ROWS).map(lambda features, label: label)

    def _gathered(
        self, columns: Mapping[str, np.ndarray], batch_size: int, shuffle_seed: int | None
    ) -> tf.data.Dataset:
        tensors = {name: tf.constant(values) for name, values in columns.items()}
        rows = len(columns[self.label_name])
        numbers = tf.data.Dataset.range(rows)
        if shuffle_seed is not None:
            numbers = numbers.shuffle(rows, seed=shuffle_seed, reshuffle_each_iteration=True)
        return numbers.batch(batch_size).map(
            lambda chosen: {name: tf.gather(values, chosen) for name, values in tensors.items()},
            tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _streamed(self, batch_size: int, shuffle_seed: int | None) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(list(self.files))
        if shuffle_seed is not None:
            files = files.shuffle(len(self.files), seed=shuffle_seed, reshuffle_each_iteration=True)
        records = _records(files, cycle_length=1 if shuffle_seed is None else 4)
        if shuffle_seed is not None:
            records = records.shuffle(SHUFFLE_BUFFER_ROWS, seed=shuffle_seed, reshuffle_each_iteration=True)
        return _parsed(records, self.feature_spec, batch_size)

    def _split_label(self, columns: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        features = {name: values for name, values in columns.items() if name != self.label_name}
        return features, tf.expand_dims(columns[self.label_name], -1)


def open_split(
    transformed_examples_dir: str,
    split: str,
    transformed_spec: FeatureSpec,
    label_name: str,
    label_dtype: tf.DType = tf.float32,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> TransformedSplit:
    """Opens the shards `<split>-*.tfrecord.gz`, and decodes them into memory if they fit.

    Args:
        transformed_spec: as `TFTransformOutput.transformed_feature_spec` gives it.
        memory_limit_bytes: of the decoded columns.

    Raises:
        ForetableError: there are no shards.
    """
    pattern = os.path.join(transformed_examples_dir, f"{split}-*.tfrecord.gz")
    files = tuple(sorted(glob.glob(pattern)))
    if not files:
        raise ForetableError(f"{pattern}: no transformed examples here; run foretable prepare")
    feature_spec = {**transformed_spec, label_name: tf.io.FixedLenFeature([], label_dtype)}
    records = _records(tf.data.Dataset.from_tensor_slices(list(files)), cycle_length=1)
    columns = _read_columns(_parsed(records, feature_spec, PARSE_ROWS), memory_limit_bytes)
    return TransformedSplit(files, feature_spec, label_name, columns)


def _read_columns(parsed: tf.data.Dataset, limit_bytes: int) -> dict[str, np.ndarray] | None:
    """The whole dataset as columns, or None as soon as it turns out larger than `limit_bytes`."""
    batches: list[dict[str, np.ndarray]] = []
    read_bytes = 0
    for batch in parsed.as_numpy_iterator():
        batches.append(batch)
        read_bytes += sum(_decoded_bytes(values) for values in batch.values())
        if read_bytes > limit_bytes:
            return None
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _decoded_bytes(values: np.ndarray) -> int:
    pointed_to = sum(map(len, values.reshape(-1))) if values.dtype == object else 0
    return values.nbytes + pointed_to


def _records(files: tf.data.Dataset, cycle_length: int) -> tf.data.Dataset:
    return files.interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP"),
        cycle_length=cycle_length,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _parsed(records: tf.data.Dataset, feature_spec: FeatureSpec, batch_size: int) -> tf.data.Dataset:
    """Whole batches parsed at once: `[batch_size, …]` by name."""
    return records.batch(batch_size).map(
        lambda serialized: tf.io.parse_example(serialized, dict(feature_spec)), tf.data.AUTOTUNE, deterministic=True
    )
