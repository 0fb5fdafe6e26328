"""The schema that a team keeps beside its job file: reading it, and what a night's examples would make of it.

Nothing here imports Beam or TensorFlow; `foretable schema` is a matter of two small files.
"""

import dataclasses
import difflib
import os

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from beam_jobs import lineage
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import RunDirectory, job_folder
from configs.errors import JobError, RefusedError
from configs.job import TrainedJob
from transforms.examples.schema import infer_schema
from transforms.examples.schema_validation import SchemaCheck, check_schema


@dataclasses.dataclass(frozen=True)
class ProposedSchema:
    """An edit of the schema.

    Attributes:
        path: of the team's file; None if the job names none.
        run_path: of the night whose examples it is for.
        anomalies: of that night, one line each.
        text: the file as it would be.
        diff: from the file as it is, unified; empty if there is nothing to edit.
    """

    path: str | None
    run_path: str
    anomalies: tuple[str, ...]
    text: str
    diff: str


def team_schema(job: TrainedJob) -> schema_pb2.Schema | None:
    """The schema that the job file names; None if it names none, or the file is not there.

    Raises:
        JobError: the file is no schema.
    """
    text = schema_text(job)
    if text is None:
        return None
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise JobError(
            f"schema: {job.schema_file}:{error}; expected the text form of TensorFlow Metadata's Schema"
        ) from error


def schema_text(job: TrainedJob) -> str | None:
    """Content of the team's file; None if there is none."""
    if job.schema_file is None or not storage.exists(job.schema_file):
        return None
    return storage.read_bytes(job.schema_file).decode()


def keep_schema_line(job: TrainedJob, job_file: str) -> str:
    """What to do where the job names a schema that is not there."""
    return (
        f"{job.schema_file} is not there; `foretable schema {job_file} --write` writes there what tonight's examples "
        "look like, to be read and kept"
    )


def infer_tonight(job: TrainedJob, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> schema_pb2.Schema:
    """The schema of a night's examples; columns that only split them may have new values every night."""
    columns = job.read_columns | {job.label.name: job.label.type}
    return infer_schema(statistics, columns, job.features, set(columns) - set(job.compared_columns))


def baseline_schema(job: TrainedJob, run: RunDirectory) -> schema_pb2.Schema | None:
    """What a night's examples are held against: the team's schema, or without one the last night's."""
    return team_schema(job) if job.schema_file is not None else last_inferred(run)


def last_inferred(run: RunDirectory) -> schema_pb2.Schema | None:
    """What the examples of the last published night before `run` were inferred to be."""
    for before in lineage.published_nights(run, 1):
        path = before.file("schema.pbtxt")
        if storage.exists(path):
            return text_format.Parse(storage.read_bytes(path), schema_pb2.Schema())
    return None


def propose_schema(job: TrainedJob, job_file: str) -> ProposedSchema:
    """The edit that makes the last night's examples valid, refused or not; a whole schema where there is none yet.

    Raises:
        RefusedError: no night has read examples yet.
    """
    runs = storage.list_files(job_folder(job), "*/*/statistics.pbtxt")
    if not runs:
        raise RefusedError(f"no night of {job.name} has read examples yet; run `foretable prepare {job_file}` first")
    path = max(runs, key=lambda path: (path.split("/")[-3], _written_at(path)))
    statistics = text_format.Parse(storage.read_bytes(path), statistics_pb2.DatasetFeatureStatisticsList())
    inferred, kept, schema = infer_tonight(job, statistics), schema_text(job), team_schema(job)
    checked = SchemaCheck((), inferred) if schema is None else check_schema(schema, statistics, inferred)
    anomalies = tuple(f"{anomaly.path}: {anomaly.long}" for anomaly in checked.anomalies)
    proposal = checked.proposal
    text = text_format.MessageToString(proposal, as_utf8=True) if proposal != schema else kept or ""
    name = job.schema_file or "schema.pbtxt"
    lines = difflib.unified_diff(
        (kept or "").splitlines(keepends=True), text.splitlines(keepends=True), name, f"{name} (proposed)"
    )
    return ProposedSchema(job.schema_file, path.rpartition("/")[0], anomalies, text, "".join(lines))


def _written_at(path: str) -> int:
    """Orders files of one date by the time of their writing; an object's generation is just that, in microseconds."""
    return os.stat(path).st_mtime_ns if storage.is_local(path) else storage.version_of(path) or 0


def write_schema(job: TrainedJob, proposed: ProposedSchema) -> None:
    """Writes the proposed schema.

    Raises:
        JobError: the job names no file for it.
    """
    if job.schema_file is None:
        raise JobError("schema: the job file names none; add `schema: FILE.pbtxt`")
    storage.write_bytes(job.schema_file, proposed.text.encode())
