"""tf.Transform's analysis of the train split: raw shards in, `transform_output/` out.

Batches come in the order of the shards' names and are never shuffled on the way: the same examples give the same files.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_transform.beam as tft_beam
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

import transforms.coders  # noqa: F401 (batches that leave a worker travel as Arrow IPC)
from configs.errors import RefusedError
from configs.features import ColumnType, Feature
from transforms.columns import adapter_batch, adapter_schema
from transforms.files import create_atomically, is_local, open_raw, refusing_unreadable, upload_folder
from transforms.preprocessing.canonical_graph import canonical_saved_model
from transforms.preprocessing.functions import PreprocessingFn, with_missing_replaced, with_outputs_checked

ANALYSIS_BATCH_ROWS = 16_384
# TensorFlow draws this one at random each time it saves a graph.
_FINGERPRINT = "fingerprint.pb"
_SAVED_MODEL = "saved_model.pb"


@dataclasses.dataclass
class AnalyzeExamples(beam.PTransform):
    """Analyzes the raw train shards and writes `transform_output`; its one element is that folder's path.

    Guarantees: the same examples give the same bytes, but for TensorFlow's `fingerprint.pb`. A folder that was there
    before is replaced: a local one by a rename, one in an object store file by file, `saved_model.pb` last.

    Attributes:
        features: raw features that `preprocessing_fn` takes.
        preprocessing_fn: as `make_preprocessing_fn` or `load_preprocessing_fn` gives it; missing values are replaced
            ahead of it, and its outputs are checked.
        label_name: name that no transformed feature may have.
        examples_dir: has `train-*.parquet`.
        temp_dir: for tf.Transform's intermediate graphs, which TensorFlow writes and reads; a local folder.
    """

    features: Mapping[str, Feature]
    preprocessing_fn: PreprocessingFn
    label_name: str
    examples_dir: str
    transform_output_dir: str
    temp_dir: str

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[str]:
        """Reads, analyses, writes and publishes."""
        types = {name: feature.type for name, feature in self.features.items()}
        preprocessing_fn = with_outputs_checked(
            with_missing_replaced(self.features, self.preprocessing_fn), self.label_name
        )
        is_remote = not is_local(self.transform_output_dir)
        partial_dir = os.path.join(self.temp_dir, "output") if is_remote else self.transform_output_dir + ".partial"
        publish = upload_dir if is_remote else replace_dir
        batches = (
            root
            | "TrainShards" >> beam.Create(find_shards(self.examples_dir, "train"), reshuffle=False)
            | "ReadBatches" >> beam.FlatMap(read_adapter_batches, types).with_output_types(pa.RecordBatch)
        )
        with tft_beam.Context(temp_dir=self.temp_dir, force_tf_compat_v1=False):
            transform_fn = (batches, adapter_config(types)) | "Analyze" >> tft_beam.AnalyzeDataset(preprocessing_fn)
            written = transform_fn | "WriteTransformFn" >> tft_beam.WriteTransformFn(partial_dir)
        return (
            written
            | "Canonicalize" >> beam.Map(lambda _: _canonicalize(partial_dir, self.temp_dir))
            | "Publish" >> beam.Map(lambda _: publish(partial_dir, self.transform_output_dir))
        )


def find_shards(examples_dir: str, split: str) -> list[str]:
    """Paths of the split's raw shards, sorted.

    Raises:
        RefusedError: there is none.
    """
    pattern = FileSystems.join(examples_dir, f"{split}-*.parquet")
    (match,) = FileSystems.match([pattern])
    if not match.metadata_list:
        raise RefusedError(f"{pattern}: no examples here; run foretable prepare")
    return sorted(metadata.path for metadata in match.metadata_list)


def read_batches(path: str, columns: list[str] | None = None, batch_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    """Batches of a raw shard in its order, of these columns, of at most `batch_rows` rows."""
    with refusing_unreadable(path), open_raw(path) as file:
        yield from pq.ParquetFile(file).iter_batches(batch_rows, columns=columns)


def read_adapter_batches(path: str, types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    """Batches of a raw shard in the layout that tf.Transform's tensor adapter asks for."""
    for batch in read_batches(path, list(types), ANALYSIS_BATCH_ROWS):
        yield adapter_batch(batch, types)


def adapter_config(types: Mapping[str, ColumnType]) -> TensorAdapterConfig:
    """Says that each raw column is a dense tensor, `[batch_size]`."""
    dense = {}
    for name in types:
        dense[name] = schema_pb2.TensorRepresentation()
        dense[name].dense_tensor.column_name = name
        dense[name].dense_tensor.shape.SetInParent()
    return TensorAdapterConfig(adapter_schema(types), dense)


def transform_hash(transform_output_dir: str) -> str:
    """SHA-256 over the names and bytes of all files of `transform_output`, but for TensorFlow's `fingerprint.pb`."""
    (match,) = FileSystems.match([FileSystems.join(transform_output_dir, "**")])
    root = transform_output_dir.rstrip("/") + "/"
    paths = {metadata.path.removeprefix(root): metadata.path for metadata in match.metadata_list}
    digest = hashlib.sha256()
    for name in sorted(name for name in paths if name.rpartition("/")[2] != _FINGERPRINT):
        with open_raw(paths[name]) as file:
            content = file.read()
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _canonicalize(transform_output_dir: str, temp_dir: str) -> None:
    path = FileSystems.join(transform_output_dir, "transform_fn", _SAVED_MODEL)
    with open_raw(path) as file:
        graph = canonical_saved_model(file.read(), temp_dir)
    with create_atomically(path) as file:
        file.write(graph)


def replace_dir(source: str, destination: str) -> str:
    """Renames a folder over another one and returns its path.

    A kill between the two steps leaves no folder of that name, never a mixed one; the stage's marker comes later.
    """
    if FileSystems.exists(destination):
        FileSystems.delete([destination])
    FileSystems.rename([source], [destination])
    return destination


def upload_dir(source: str, destination: str) -> str:
    """Uploads a local folder over another one and returns its path; the stage's marker comes later."""
    upload_folder(source, destination, last=_SAVED_MODEL)
    return destination
