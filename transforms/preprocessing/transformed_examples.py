"""Transformed examples: each raw shard through the saved transform graph, as tf.Examples in a gzip TFRecord file.

The two files have one name and their rows one order, because the skew check compares them row by row.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.io.filesystems import FileSystems
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from configs.errors import RefusedError
from configs.features import ColumnType
from transforms.columns import graph_inputs
from transforms.files import create_atomically
from transforms.local_copies import local_folder
from transforms.preprocessing.analysis import find_shards, read_batches

_LIST_TYPES = {np.dtype("float32"): pa.float32(), np.dtype("int64"): pa.int64(), np.dtype("object"): pa.large_binary()}
# Higher levels take several times as long and save a few percent.
_COMPRESSION_LEVEL = 3


@dataclasses.dataclass(frozen=True)
class TransformedShard:
    """One written file of transformed examples."""

    name: str
    rows: int


@dataclasses.dataclass
class TransformExamples(beam.PTransform):
    """Transforms every raw shard; gives a `TransformedShard` for each, in no promised order.

    Guarantees: a shard's rows keep their order, the same rows and graph give the same bytes, and a file appears as a
    whole.

    Attributes:
        features: raw features of the transform graph, with their types.
        label_name: column that goes beside the transformed features, as `label_column` makes it.
        classes: of a multiclass task, in the order of their ids.
        examples_dir: has `train-*.parquet` and `eval-*.parquet`.
        transform_output_dir: a folder that every worker can read.
    """

    features: Mapping[str, ColumnType]
    label_name: str
    classes: tuple[str, ...] | None
    examples_dir: str
    transform_output_dir: str
    transformed_examples_dir: str

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[TransformedShard]:
        """Lists the shards and transforms each."""
        shards = [path for split in ("train", "eval") for path in find_shards(self.examples_dir, split)]
        return (
            root
            | "Shards" >> beam.Create(shards)
            | "BreakFusion" >> beam.Reshuffle()  # one worker would otherwise transform every shard
            | "Transform" >> beam.ParDo(_TransformShard(self))
        )


class _TransformShard(beam.DoFn):
    """Loads the transform graph once for each worker."""

    def __init__(self, settings: TransformExamples):
        self._settings = dataclasses.asdict(settings)

    def setup(self) -> None:
        transform_output = tft.TFTransformOutput(local_folder(self._settings["transform_output_dir"]))
        self._transform = transform_output.transform_features_layer()

    def process(self, path: str) -> Iterator[TransformedShard]:
        settings = self._settings
        name = os.path.basename(path).removesuffix(".parquet")
        destination = FileSystems.join(settings["transformed_examples_dir"], f"{name}.tfrecord.gz")
        batches = read_batches(path, [*settings["features"], settings["label_name"]])
        records = (
            record
            for batch in batches
            for record in transform_batch(
                self._transform, batch, settings["features"], settings["label_name"], settings["classes"]
            )
        )
        yield TransformedShard(name, write_records(destination, records))


def transform_batch(
    transform: Any,
    batch: pa.RecordBatch,
    features: Mapping[str, ColumnType],
    label_name: str,
    classes: tuple[str, ...] | None = None,
) -> list[bytes]:
    """Serialized tf.Examples of the batch's rows, in their order: transformed features and the label.

    Args:
        transform: the transform graph, from and to dictionaries of tensors.
        batch: raw features and the label, null where missing.
    """
    raw = {name: tf.constant(values) for name, values in graph_inputs(batch, features).items()}
    columns = {name: tensor.numpy() for name, tensor in transform(raw).items()}
    columns[label_name] = label_column(batch.column(label_name), label_name, classes)
    return encode_examples(columns)


def encode_examples(columns: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serialized tf.Examples, features sorted by name: what protobuf's deterministic serialization gives.

    tfx_bsl's encoder, given all columns at once, puts a row's features in an order that it draws anew for each row. So
    it gets them one by one, and each row's parts are joined.

    Args:
        columns: each `[num_rows, …]`, float32, int64 or bytes objects.
    """
    encoder = RecordBatchToExamplesEncoder()
    parts = [
        encoder.encode(pa.RecordBatch.from_arrays([_list_column(values)], names=[name]))
        for name, values in sorted(columns.items())
    ]
    return [_example(b"".join(map(_features, row))) for row in zip(*parts, strict=True)]


def label_column(column: pa.Array, label_name: str, classes: tuple[str, ...] | None) -> np.ndarray:
    """The label as the model learns it, `[num_rows]`: float32, or the int64 class id where there are classes.

    Raises:
        RefusedError: a label is missing, or none of the classes.
    """
    if classes is None:
        values = pc.cast(column, pa.float32(), safe=False)
    else:
        values = pc.cast(
            pc.index_in(pc.cast(column, pa.string()), value_set=pa.array(classes, pa.string())), pa.int64()
        )
    if values.null_count:
        stranger = column.filter(pc.is_null(values))[0].as_py()
        expected = "a value" if classes is None else f"one of the train split's classes ({', '.join(classes)})"
        raise RefusedError(f"label {label_name}: {stranger!r}: expected {expected}; list all classes in task.classes")
    return values.to_numpy(zero_copy_only=False)


def write_records(destination: str, records: Iterable[bytes]) -> int:
    """Writes a gzip TFRecord file as a whole, and returns the number of records.

    TensorFlow writes it locally, so that no path of another file system reaches TensorFlow.
    """
    count = 0
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=_COMPRESSION_LEVEL)
    with tempfile.TemporaryDirectory(prefix="foretable-") as folder:
        local = os.path.join(folder, "records")
        with tf.io.TFRecordWriter(local, options) as writer:
            for record in records:
                writer.write(record)
                count += 1
        with open(local, "rb") as source, create_atomically(destination) as target:
            shutil.copyfileobj(source, target)
    return count


def _features(example: bytes) -> bytes:
    """The `features` field of a serialized tf.Example, without its tag and length."""
    end_of_length = 1
    while example[end_of_length] >= 0x80:
        end_of_length += 1
    return example[end_of_length + 1 :]


def _example(features: bytes) -> bytes:
    """A serialized tf.Example: the tag of field 1, the length in base 128, lowest digit first, and the features."""
    length, digits = len(features), bytearray([0x0A])
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits) + features


def _list_column(values: np.ndarray) -> pa.Array:
    """A tensor as a column of lists: `[num_rows, …]`, flattened row by row."""
    rows, width = values.shape[0], int(np.prod(values.shape[1:], dtype=np.int64))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int64) * width)
    return pa.LargeListArray.from_arrays(offsets, pa.array(values.reshape(-1), _LIST_TYPES[values.dtype]))
