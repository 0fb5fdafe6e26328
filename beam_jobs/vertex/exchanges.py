"""How instances go to a batch prediction job and predictions come back: as files in the workspace, or in BigQuery."""

import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from beam_jobs.vertex.jobs import VertexJob
from beam_jobs.vertex.predictions import (
    PREDICTION,
    Answers,
    Failure,
    error_lines,
    error_row,
    prediction_lines,
    prediction_rows,
)
from beam_jobs.workspace import storage

if TYPE_CHECKING:
    from beam_jobs.warehouses.bigquery.instance_tables import InstanceTables

_CHUNK_LINES = 1 << 16
_MOST_ERROR_ROWS = 1000
_RESULTS, _ERRORS = ("prediction.results", "predictions_"), ("prediction.errors", "errors_")
"""How names of files start: as jobs of custom models write them, and as the API's reference has them."""
_PREDICTIONS, _FAILED = "predictions", "errors"
"""How names of tables start."""


class Exchange(Protocol):
    """One way there and back.

    Attributes:
        suffix: of the instance files.
    """

    suffix: str

    def sources(self, files: Sequence[str], instances: Sequence[int], schema: pa.Schema) -> list[str]:
        """Makes files of instances ready to be a job's input; asked again, it does nothing again.

        Args:
            instances: in each file.

        Returns:
            What the job reads, as Vertex takes it.
        """

    def configure(self, sources: Sequence[str], part: int) -> dict[str, Any]:
        """Fields of a `BatchPredictionJob` for this input, and an output of its own.

        Args:
            part: number of the job in its round.
        """

    def has_output(self, job: VertexJob) -> bool:
        """Whether what a job wrote is still there."""

    def answers(self, job: VertexJob) -> Iterator[Answers]:
        """Predictions that the job wrote."""

    def failures(self, job: VertexJob) -> Iterator[Failure]:
        """Errors that the job wrote, the first ones at least."""


class FileExchange:
    """Lines of JSON in files of the workspace.

    An object takes the instance's place in the output where `key_field` is given: its key alone. So predictions are
    matched without a look at what came back of the instances.
    """

    suffix = "jsonl"

    def __init__(self, folder: str, key: str):
        """Of a round.

        Args:
            folder: of the round.
            key: field of the instances' keys.
        """
        self._folder, self._key = folder, key

    def sources(self, files: Sequence[str], instances: Sequence[int], schema: pa.Schema) -> list[str]:
        """The files as they are; see `Exchange`."""
        return list(files)

    def configure(self, sources: Sequence[str], part: int) -> dict[str, Any]:
        """See `Exchange`."""
        output = storage.join(self._folder, f"output-{part:03d}")
        return {
            "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": list(sources)}},
            "instance_config": {"instance_type": "object", "key_field": self._key},
            "output_config": {"predictions_format": "jsonl", "gcs_destination": {"output_uri_prefix": output}},
        }

    def has_output(self, job: VertexJob) -> bool:
        """See `Exchange`."""
        return bool(self._files(job, _RESULTS + _ERRORS))

    def answers(self, job: VertexJob) -> Iterator[Answers]:
        """See `Exchange`."""
        for path in self._files(job, _RESULTS):
            number = 1
            for lines in _lines_of(path):
                yield prediction_lines(lines, path, number)
                number += len(lines)

    def failures(self, job: VertexJob) -> Iterator[Failure]:
        """See `Exchange`."""
        for path in self._files(job, _ERRORS):
            for lines in _lines_of(path):
                yield from error_lines(lines)

    def _files(self, job: VertexJob, names: tuple[str, ...]) -> list[str]:
        folder = job.message.output_info.gcs_output_directory
        found = storage.list_files(folder.rstrip("/")) if folder else []
        return [path for path in found if path.rpartition("/")[2].startswith(names)]


class TableExchange:
    """Tables in BigQuery.

    Vertex refuses `key_field` there (https://github.com/googleapis/python-aiplatform/issues/4514); but a field that it
    does not send to the model, it puts beside the prediction. `instance_type` spares positional arrays, in which
    Vertex sends a row else.
    """

    suffix = "parquet"

    def __init__(self, tables: "InstanceTables", name: str, key: str, labels: Mapping[str, str]):
        """Of a round.

        Args:
            name: that the names of its tables and load jobs start with.
            key: column of the instances' keys.
            labels: of its tables and load jobs.
        """
        self._tables, self._name, self._key, self._labels = tables, name, key, labels

    def sources(self, files: Sequence[str], instances: Sequence[int], schema: pa.Schema) -> list[str]:
        """One table, loaded from the files; see `Exchange`."""
        part = f"{self._name}_{storage.digest_of(list(files))[:8]}"
        self._tables.load(part, files, schema, sum(instances), f"{part}_load", self._labels)
        return [f"bq://{self._tables.dataset.path(part)}"]

    def configure(self, sources: Sequence[str], part: int) -> dict[str, Any]:
        """See `Exchange`."""
        (table,) = sources
        return {
            "input_config": {"instances_format": "bigquery", "bigquery_source": {"input_uri": table}},
            "instance_config": {"instance_type": "object", "excluded_fields": [self._key]},
            "output_config": {
                "predictions_format": "bigquery",
                "bigquery_destination": {"output_uri": f"bq://{self._tables.dataset.name}"},
            },
        }

    def has_output(self, job: VertexJob) -> bool:
        """See `Exchange`."""
        return bool(self._there(job))

    def answers(self, job: VertexJob) -> Iterator[Answers]:
        """See `Exchange`; the tables expire from now on."""
        there = self._there(job)
        for name in there.values():
            self._tables.let_expire(name)
        if (table := there.get(_PREDICTIONS)) is None:
            return
        where = self._tables.dataset.path(table)
        for batch in self._tables.read(table, [self._key, PREDICTION]):
            yield prediction_rows(batch.column(0).to_pylist(), batch.column(1).to_pylist(), where)

    def failures(self, job: VertexJob) -> Iterator[Failure]:
        """See `Exchange`."""
        if (table := self._there(job).get(_FAILED)) is not None:
            for row in self._tables.some_rows(table, _MOST_ERROR_ROWS):
                error = next((row[name] for name in ("errors", "error") if name in row), row)
                yield error_row(row.get(self._key), error)

    def _there(self, job: VertexJob) -> dict[str, str]:
        """Those of the job's tables that are there."""
        names = output_tables(job.message.output_info.bigquery_output_table)
        return {kind: name for kind, name in names.items() if self._tables.exists(name)}


def output_tables(table: str) -> dict[str, str]:
    """Names of a job's tables by what they hold, from that of its output table; that of errors ends alike."""
    name = table.rpartition(".")[2]
    tables = {_PREDICTIONS: name} if name else {}
    if name.startswith(_PREDICTIONS):
        tables[_FAILED] = name.replace(_PREDICTIONS, _FAILED, 1)
    return tables


def _lines_of(path: str) -> Iterator[list[bytes]]:
    with tempfile.TemporaryDirectory(prefix="foretable-output-") as folder:
        local = os.path.join(folder, "lines")
        storage.download(path, local)
        with open(local, "rb") as file:
            lines = (line.rstrip(b"\r\n") for line in file)
            while chunk := list(itertools.islice(lines, _CHUNK_LINES)):
                yield chunk
