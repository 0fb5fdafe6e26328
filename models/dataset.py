"""Transformed examples as batches for training, in an order that the seed alone decides.

A split that fits into memory is decoded once and shuffled as a whole each epoch by its row numbers; gathering columns
is many times faster than passing rows one by one. A larger split is streamed, and shuffled in parts.
"""

import dataclasses
import glob
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from configs.errors import ForetableError

MEMORY_LIMIT_BYTES = 1 << 30
PARSE_ROWS = 8_192
SHUFFLED_ROWS = 262_144

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

    def rows(self) -> int:
        """How many examples there are; counts them where they do not fit into memory."""
        if self.columns is not None:
            return len(self.columns[self.label_name])
        counted = self.labels().map(lambda label: tf.shape(label, tf.int64)[0])
        return int(counted.reduce(tf.constant(0, tf.int64), lambda total, rows: total + rows))

    def batches(
        self, batch_size: int, shuffle_seed: tf.Variable | None = None, drop_remainder: bool = False
    ) -> tf.data.Dataset:
        """Pairs of transformed features, each `[batch_size, …]`, and labels, `[batch_size, 1]`; one epoch, all rows.

        Args:
            shuffle_seed: whose value when an epoch begins decides that epoch's order, and nothing else does: a training
                that goes on at its fifth epoch sees the rows as one that began with the first. A scalar of int64, on
                the CPU. None keeps the rows' own order.
            drop_remainder: leaves out the last rows where they are fewer than a batch, so that all have one shape.
        """
        if self.columns is None:
            parsed = self._streamed(batch_size, shuffle_seed)
        else:
            parsed = self._gathered(self.columns, batch_size, shuffle_seed)
        if drop_remainder:
            parsed = parsed.rebatch(batch_size, drop_remainder=True)
        return parsed.map(self._split_label, tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)

    def labels(self) -> tf.data.Dataset:
        """All labels in order, `[batch_size, 1]`."""
        return self.batches(PARSE_ROWS).map(lambda features, label: label)

    def _gathered(
        self, columns: Mapping[str, np.ndarray], batch_size: int, shuffle_seed: tf.Variable | None
    ) -> tf.data.Dataset:
        tensors = {name: tf.constant(values) for name, values in columns.items()}
        rows = self.rows()
        numbers = tf.data.Dataset.range(rows).batch(batch_size)
        if shuffle_seed is not None:
            numbers = _each_epoch(
                shuffle_seed,
                lambda seed: tf.data.Dataset.from_tensor_slices(_shuffled(tf.range(rows), seed)).batch(batch_size),
            ).apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))
        return numbers.map(
            lambda chosen: {name: tf.gather(values, chosen) for name, values in tensors.items()},
            tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _streamed(self, batch_size: int, shuffle_seed: tf.Variable | None) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(list(self.files))
        serialized = _records(files, cycle_length=1).batch(batch_size)
        if shuffle_seed is not None:
            serialized = _each_epoch(shuffle_seed, lambda seed: self._shuffled_records(seed)).rebatch(batch_size)
        return _parsed(serialized, self.feature_spec)

    def _shuffled_records(self, seed: tf.Tensor) -> tf.data.Dataset:
        """Records of a few files at a time, the files in another order, in parts that are each shuffled as a whole."""
        files = tf.data.Dataset.from_tensor_slices(_shuffled(tf.constant(self.files), seed))
        parts = _records(files, cycle_length=4).batch(SHUFFLED_ROWS).enumerate()
        return parts.map(lambda index, records: _shuffled(records, seed, index))

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
    columns = _read_columns(_parsed(records.batch(PARSE_ROWS), feature_spec), memory_limit_bytes)
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


def _each_epoch(seed: tf.Variable, ordered: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
    """`ordered` by the value that `seed` has when an iteration begins."""
    return tf.data.Dataset.from_tensors(0).flat_map(lambda _: ordered(seed.read_value()))


def _shuffled(values: tf.Tensor, seed: tf.Tensor, part: tf.Tensor | int = 0) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(values, tf.stack([seed, tf.cast(part, tf.int64)]))


def _parsed(serialized: tf.data.Dataset, feature_spec: FeatureSpec) -> tf.data.Dataset:
    """Whole batches parsed at once: `[batch_size, …]` by name."""
    return serialized.map(
        lambda examples: tf.io.parse_example(examples, dict(feature_spec)), tf.data.AUTOTUNE, deterministic=True
    )
