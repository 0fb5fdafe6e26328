"""What earlier stages left in a run directory, read back as the values that they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import lineage, storage
from beam_jobs.run_directory import RunDirectory, read_marker
from configs.errors import RefusedError
from configs.job import Job
from configs.outputs import Output, model_outputs
from transforms.axes import Axis
from transforms.input_space import InputSpace
from transforms.shards import Manifest
from transforms.skew import ShardPair


def scoring_model(run_path: str) -> lineage.TrainedModel:
    """The model that the run scores with.

    Raises:
        RefusedError: its train stage is not done.
    """
    model = lineage.model_of(run_path)
    if model is None:
        raise RefusedError(f"{run_path}: training.json is not there; run `foretable train` for this job first")
    return model


@contextmanager
def local_model(model: lineage.TrainedModel) -> Iterator[str]:
    """Local folder of the SavedModel."""
    with storage.local_copy(model.model_path) as folder:
        yield folder


def outputs_of(job: Job, model: lineage.TrainedModel) -> tuple[Output, ...]:
    """Outputs of the model's serving signature."""
    return model_outputs(job.label, job.task, model.classes)


def space_of(job: Job, axes: tuple[Axis, ...]) -> InputSpace:
    """The product of the axes, with columns in the table's order: names of rows, then the features as declared."""
    keys = [name for axis in axes for name in axis.table.column_names if name not in job.features]
    return InputSpace(axes, (*keys, *job.features), job.input_space.exclude)


def shard_pairs(run: RunDirectory) -> list[ShardPair]:
    """Raw examples beside the transformed ones, file by file."""
    raw = storage.list_files(run.file("examples"), "*.parquet")
    return [ShardPair(path, _transformed(run, path)) for path in raw]


def _transformed(run: RunDirectory, raw: str) -> str:
    name = raw.rpartition("/")[2].removesuffix(".parquet")
    return run.file("transformed_examples", f"{name}.tfrecord.gz")


def read_examples(shard: str, columns: list[str]) -> pa.Table:
    """These columns of a shard of raw examples."""
    return pq.read_table(pa.BufferReader(storage.read_bytes(shard)), columns=columns)


def manifest_of(run: RunDirectory) -> Manifest:
    """The manifest of the run's shards."""
    return Manifest.from_json(read_marker(run.file("manifest.json"))["manifest"])
