"""Reads the examples of any source as columns, in batches whose names and order depend on the source alone."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from configs.errors import RefusedError
from configs.features import ColumnType
from configs.sources import CsvSource, ParquetSource, SampleSource, Source, TFRecordSource
from transforms.examples.readers import csv_file, natality_sample, parquet_file, tfrecord_file
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected

BAD_ROWS = "bad_rows"
EXAMPLES = "examples"

_READERS: dict[type, Callable[..., Iterator[pa.RecordBatch | BadRow]]] = {
    CsvSource: csv_file.read,
    ParquetSource: parquet_file.read,
    TFRecordSource: tfrecord_file.read,
}


@dataclasses.dataclass(frozen=True)
class ReadElement:
    """A part of a source that one worker reads from beginning to end.

    Attributes:
        index: in the source; parts of files are sorted by path.
        source: as the job file has it.
        path: of the file; empty for a generated sample.
        block: of the sample.
    """

    index: int
    source: Source
    path: str = ""
    block: int = 0


@dataclasses.dataclass(frozen=True)
class ExampleBatch:
    """Good rows of one part of a source.

    Attributes:
        stem: `SSSSS-BBBBB`, the part's index and the batch's number in it.
        batch: 65,536 rows, or fewer if it is the part's last.
    """

    stem: str
    batch: pa.RecordBatch


def expand_source(source: Source) -> tuple[ReadElement, ...]:
    """Parts of a source that can be read in parallel: its files, sorted by path, or the sample's blocks.

    Raises:
        RefusedError: a path or glob matches no file.
    """
    if isinstance(source, SampleSource):
        blocks = -(-source.rows // BATCH_ROWS)
        return tuple(ReadElement(block, source, block=block) for block in range(blocks))
    return tuple(ReadElement(index, source, path=file.path) for index, file in enumerate(_match_files(source)))


def read_element(element: ReadElement, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
    """Reads one part: its good rows in order, and its bad rows.

    Raises:
        RefusedError: the file cannot be read, or lacks a column.
    """
    if isinstance(element.source, SampleSource):
        return natality_sample.read_block(element.source, element.block, expected)
    return _READERS[type(element.source)](element.path, expected, element.source)


def read_table(source: Source, columns: Mapping[str, ColumnType], limit: int | None = None) -> pa.Table:
    """Reads whole columns of a source, without Beam: for axes, which are small.

    Args:
        source: to read.
        columns: to read, with their types; any may be missing.
        limit: rows after which to stop.

    Raises:
        RefusedError: the source cannot be read, or has a bad row.
    """
    expected = Expected(columns)
    batches: list[pa.RecordBatch] = []
    rows = 0
    for element in expand_source(source):
        for piece in read_element(element, expected):
            if isinstance(piece, BadRow):
                raise RefusedError(str(piece))
            batches.append(piece)
            rows += piece.num_rows
            if limit is not None and rows >= limit:
                return pa.Table.from_batches(batches).slice(0, limit)
    return pa.Table.from_batches(batches, schema=expected.schema)


def source_fingerprint(source: Source) -> str:
    """SHA-256 that changes when the source's rows may have: over paths, sizes and times of change, not over content.

    Raises:
        RefusedError: a path or glob matches no file.
    """
    parts: list[Any] = [source.model_dump(mode="json")]
    if isinstance(source, SampleSource):
        parts.append(natality_sample.GENERATOR_VERSION)
    else:
        parts += [[file.path, file.size_in_bytes, file.last_updated_in_seconds] for file in _match_files(source)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass
class ReadExamples(beam.PTransform):
    """Reads a source: `ExampleBatch` elements under the tag `examples`, `BadRow` ones under `bad_rows`.

    Each good row comes in exactly one batch, and the same source gives the same batches. The order of elements is not
    promised; their stems are it.
    """

    source: Source
    expected: Expected

    def expand(self, root: beam.pvalue.PBegin) -> Any:
        """Lists the source's parts and reads each."""
        return (
            root
            | "Source" >> beam.Create([self.source])
            | "ExpandSource" >> beam.FlatMap(expand_source).with_input_types(Any)  # Beam cannot check pydantic's unions
            | "BreakFusion" >> beam.Reshuffle()  # one worker would otherwise read every file
            | "ReadElements" >> beam.FlatMap(_tagged_pieces, self.expected).with_outputs(BAD_ROWS, main=EXAMPLES)
        )


def _tagged_pieces(element: ReadElement, expected: Expected) -> Iterator[Any]:
    number = 0
    for piece in read_element(element, expected):
        if isinstance(piece, BadRow):
            yield beam.pvalue.TaggedOutput(BAD_ROWS, piece)
        else:
            yield ExampleBatch(f"{element.index:05d}-{number:05d}", piece)
            number += 1


def _match_files(source: CsvSource | ParquetSource | TFRecordSource) -> list[FileMetadata]:
    files: dict[str, FileMetadata] = {}
    for pattern in source.files:
        try:
            (match,) = FileSystems.match([pattern])
        except (BeamIOError, ValueError) as error:
            raise RefusedError(f"source.files: cannot look for {pattern!r}: {error}") from error
        if not match.metadata_list:
            raise RefusedError(f"source.files: no file matches {pattern!r}")
        files |= {file.path: file for file in match.metadata_list}
    return [files[path] for path in sorted(files)]
