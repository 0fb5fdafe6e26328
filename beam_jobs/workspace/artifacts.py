"""What earlier stages left in a run directory, read back as the values that they were."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import lineage
from beam_jobs.foreign_models import GivenModel, given_model
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, read_marker
from configs.errors import RefusedError
from configs.job import ForeignJob, Job, TrainedJob
from configs.outputs import Output, model_outputs
from transforms.evaluation.skew import ShardPair
from transforms.preprocessing.vocabularies import vocabulary_words
from transforms.scoring.foreign_models import ForeignCall, find_outputs
from transforms.scoring.shards import Manifest
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace

ScoringModel = lineage.TrainedModel | GivenModel


def scoring_model(job: Job, run_path: str) -> ScoringModel:
    """The model that the run scores with: the one that a person chose for it, or else its own.

    Raises:
        RefusedError: its train stage is not done, or the model that the job is given is not there.
    """
    if isinstance(job, ForeignJob):
        return given_model(job)
    return lineage.chosen_model(run_path) or trained_model(run_path)


def trained_model(run_path: str) -> lineage.TrainedModel:
    """The model that the run trained or took over.

    Raises:
        RefusedError: its train stage is not done.
    """
    model = lineage.model_of(run_path)
    if model is None:
        raise RefusedError(f"{run_path}: training.json is not there; run `foretable train` for this job first")
    return model


@contextmanager
def local_model(model: ScoringModel) -> Iterator[str]:
    """Local folder of the SavedModel."""
    with storage.local_copy(model.model_path) as folder:
        yield folder


@contextmanager
def vocabularies_of(model: ScoringModel) -> Iterator[Callable[[str], list[str]]]:
    """Reads a feature's words in the model's transform graph; a given model has none, and its job no axis of words."""
    if isinstance(model, GivenModel):
        yield lambda feature: []
        return
    with storage.local_copy(model.transform_path) as transform_output:
        yield lambda feature: vocabulary_words(transform_output, feature)


def outputs_of(job: Job, model: ScoringModel) -> tuple[Output, ...]:
    """Outputs of the model's signature that predicts."""
    if isinstance(job, TrainedJob) and isinstance(model, lineage.TrainedModel):
        return model_outputs(job.label, job.task, model.classes)
    assert isinstance(job, ForeignJob), job.name
    with local_model(model) as folder:
        return find_outputs(folder, job.model.signature, job.model.outputs)


def foreign_call_of(job: Job) -> ForeignCall | None:
    """How to call the model, if somebody else made it."""
    return ForeignCall.of(job.model.signature, job.features) if isinstance(job, ForeignJob) else None


def space_of(job: Job, axes: tuple[Axis, ...]) -> InputSpace:
    """The product of the axes, with columns in the table's order: names of rows, then the features as declared."""
    inputs = {name: axis for axis in axes for name in axis.inputs.column_names}
    keys = [name for name in inputs if name not in job.features]
    columns = [
        column
        for name in job.features
        for column in ((name,) if inputs[name].representatives is None else inputs[name].table.column_names)
    ]
    return InputSpace(axes, (*keys, *columns), job.input_space.exclude)


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
