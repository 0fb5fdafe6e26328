"""Reads the examples of any source as columns, in batches whose names and order depend on the source alone."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from configs.errors import RefusedError
from configs.features import ColumnType
from configs.sources import CsvSource, ParquetSource, SampleSource, TFRecordSource
from transforms.examples.ordering import PutInContentOrder, batch_stem
from transforms.examples.readers import csv_file, natality_sample, parquet_file, tfrecord_file
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected

BAD_ROWS = "bad_rows"
EXAMPLES = "examples"

FileSource = CsvSource | ParquetSource | TFRecordSource

_READERS: dict[type, Callable[..., Iterator[pa.RecordBatch | BadRow]]] = {
    CsvSource: csv_file.read,
    ParquetSource: parquet_file.read,
    TFRecordSource: tfrecord_file.read,
}
_COLUMN_NAMES: dict[type, Callable[..., tuple[str, ...]]] = {
    CsvSource: csv_file.column_names,
    ParquetSource: parquet_file.column_names,
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a source that one worker reads from beginning to end.

    Attributes:
        index: in the source.
        name: what its reader knows it by, such as a file's path.
    """

    index: int
    name: str = ""


@runtime_checkable  # Beam checks what its functions are given
class SourceReader(Protocol):
    """Reads one source: a small value, which Beam sends to its workers."""

    def unordered_rows(self) -> int | None:
        """None if each reading gives the same rows in the same parts and order; else about how many rows there are."""

    def parts(self) -> tuple[Part, ...]:
        """Parts that can be read in parallel; each row of the source is in exactly one.

        Raises:
            RefusedError: there is nothing to read.
        """

    def column_names(self) -> tuple[str, ...] | None:
        """All columns that the source has now, also those that nobody reads; None where its rows alone know.

        Raises:
            RefusedError: there is nothing to read.
        """

    def read(self, part: Part, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
        """Reads one part: its good rows in batches of `BATCH_ROWS` but the last, and its bad rows.

        Raises:
            RefusedError: the part cannot be read, or lacks a column.
        """

    def fingerprint(self) -> str:
        """SHA-256 that changes when the source's rows may have."""


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Reads files: a part is a file, and they are sorted by path."""

    source: FileSource

    def unordered_rows(self) -> None:
        """Files have an order."""
        return None

    def parts(self) -> tuple[Part, ...]:
        """The files.

        Raises:
            RefusedError: a path or glob matches none.
        """
        return tuple(Part(index, file.path) for index, file in enumerate(_match_files(self.source)))

    def column_names(self) -> tuple[str, ...] | None:
        """Those of the last file: where a night adds files, what is new is there."""
        names = _COLUMN_NAMES.get(type(self.source))
        return names(self.parts()[-1].name, self.source) if names is not None else None

    def read(self, part: Part, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
        """Reads one file."""
        return _READERS[type(self.source)](part.name, expected, self.source)

    def fingerprint(self) -> str:
        """Digest of paths, sizes and times of change, not of content."""
        files = [[file.path, file.size_in_bytes, file.last_updated_in_seconds] for file in _match_files(self.source)]
        return digest_of(self.source.model_dump(mode="json"), *files)


@dataclasses.dataclass(frozen=True)
class SampleReader:
    """Reads a generated sample: a part is a block of it."""

    source: SampleSource

    def unordered_rows(self) -> None:
        """A sample has an order."""
        return None

    def parts(self) -> tuple[Part, ...]:
        """The sample's blocks."""
        return tuple(Part(block) for block in range(-(-self.source.rows // BATCH_ROWS)))

    def column_names(self) -> None:
        """The generator makes what it is asked for."""
        return None

    def read(self, part: Part, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
        """Generates one block."""
        return natality_sample.read_block(self.source, part.index, expected)

    def fingerprint(self) -> str:
        """Digest of the sample's settings and the generator's version."""
        return digest_of(self.source.model_dump(mode="json"), natality_sample.GENERATOR_VERSION)


def reader_of(source: SampleSource | FileSource) -> SourceReader:
    """The reader of a source that needs no cloud client."""
    return SampleReader(source) if isinstance(source, SampleSource) else FileReader(source)


@dataclasses.dataclass(frozen=True)
class ExampleBatch:
    """Good rows of one part of a source.

    Attributes:
        stem: `SSSSS-BBBBB`, the part's index and the batch's number in it.
        batch: 65,536 rows, or fewer if it is the part's last.
    """

    stem: str
    batch: pa.RecordBatch


def read_table(reader: SourceReader, columns: Mapping[str, ColumnType]) -> pa.Table:
    """Reads whole columns of a source, without Beam: for axes, which are small.

    Args:
        reader: of the source.
        columns: to read, with their types; any may be missing.

    Returns:
        The rows in the source's order, or sorted by all columns where it has none.

    Raises:
        RefusedError: the source cannot be read, or has a bad row.
    """
    expected = Expected(columns)
    batches: list[pa.RecordBatch] = []
    for part in reader.parts():
        for piece in reader.read(part, expected):
            if isinstance(piece, BadRow):
                raise RefusedError(str(piece))
            batches.append(piece)
    table = pa.Table.from_batches(batches, schema=expected.schema)
    return table if reader.unordered_rows() is None else table.sort_by([(name, "ascending") for name in columns])


@dataclasses.dataclass
class ReadExamples(beam.PTransform):
    """Reads a source: `ExampleBatch` elements under the tag `examples`, `BadRow` ones under `bad_rows`.

    Each good row comes in exactly one batch, and the same rows give the same batches: a source without an order of its
    own is put into one that the rows' content decides. The order of elements is not promised; their stems are it.
    """

    reader: SourceReader
    expected: Expected

    def expand(self, root: beam.pvalue.PBegin) -> Any:
        """Lists the source's parts and reads each."""
        read = (
            root
            | "Source" >> beam.Create([self.reader])
            | "ListParts" >> beam.FlatMap(lambda reader: reader.parts())
            | "BreakFusion" >> beam.Reshuffle()  # one worker would otherwise read every part
            | "ReadParts"
            >> beam.FlatMap(_tagged_pieces, self.reader, self.expected).with_outputs(BAD_ROWS, main=EXAMPLES)
        )
        rows = self.reader.unordered_rows()
        if rows is None:
            return read
        ordered = (
            read[EXAMPLES]
            | "SelectBatches" >> beam.Map(lambda examples: examples.batch)
            | "PutInContentOrder" >> PutInContentOrder(rows)
            | "NameBatches" >> beam.MapTuple(ExampleBatch)
        )
        return {EXAMPLES: ordered, BAD_ROWS: read[BAD_ROWS]}


def _tagged_pieces(part: Part, reader: SourceReader, expected: Expected) -> Iterator[Any]:
    number = 0
    for piece in reader.read(part, expected):
        if isinstance(piece, BadRow):
            yield beam.pvalue.TaggedOutput(BAD_ROWS, piece)
        else:
            yield ExampleBatch(batch_stem(part.index, number), piece)
            number += 1


def digest_of(*trees: Any) -> str:
    """SHA-256 of the JSON of plain values."""
    return hashlib.sha256(json.dumps(trees, sort_keys=True).encode()).hexdigest()


def _match_files(source: FileSource) -> list[FileMetadata]:
    files: dict[str, FileMetadata] = {}
    for pattern in source.files:
        try:
            (match,) = FileSystems.match([pattern])
        except (BeamIOError, ValueError) as error:
            raise RefusedError(f"source.files: cannot look for {pattern!r}: {_reason(error)}") from error
        if not match.metadata_list:
            raise RefusedError(f"source.files: no file matches {pattern!r}")
        files |= {file.path: file for file in match.metadata_list}
    return [files[path] for path in sorted(files)]


def _reason(error: object) -> str:
    """What the file system said, in one line; Beam wraps it in its own words, several times for an object store."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    return str(error).partition("\n")[0]
