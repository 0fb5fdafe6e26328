"""Reads delimited text with a header line, fast while all is well, and carefully from where something is wrong.

Arrow's parser is fast, but it guesses where quotes are stray, and cannot say which line a record stands on. So it reads
as long as every record is good; at the first doubtful batch Python's parser, strict and with line numbers, takes over.
"""

import contextlib
import csv
import gzip
import io
import itertools
from collections.abc import Generator, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from configs.errors import RefusedError
from configs.sources import CsvSource
from transforms.examples.readers.conversion import parse_text
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected, check_columns, exact_batches, sort_rows
from transforms.files import open_raw, refusing_unreadable

_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_UNCLOSED_QUOTE = "unexpected end of data"


def read(
    path: str, expected: Expected, source: CsvSource, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch | BadRow]:
    """Reads a file's good rows, in order and in batches of `batch_rows` but the last, and its bad rows.

    Empty lines are skipped. Records without any quote, or with quotes as in RFC 4180, are read exactly as written.

    Raises:
        RefusedError: the file is empty, lacks a column, is corrupt, or ends inside a quoted field.
    """
    with refusing_unreadable(path):
        check_columns(path, column_names(path, source), expected)
        yield from exact_batches(_sorted_rows(path, expected, source), batch_rows)


def _sorted_rows(path: str, expected: Expected, source: CsvSource) -> Iterator[pa.RecordBatch | BadRow]:
    records, complete = yield from _read_fast(path, expected, source)
    if not complete:
        yield from read_carefully(path, expected, source, skip_records=records)


def _read_fast(path: str, expected: Expected, source: CsvSource) -> Generator[pa.RecordBatch, None, tuple[int, bool]]:
    """Yields batches up to the first doubtful one; returns the number of records in them, and whether that was all."""
    records = 0
    convert_options = pyarrow.csv.ConvertOptions(
        include_columns=list(expected.columns),
        column_types=dict.fromkeys(expected.columns, pa.string()),
        null_values=list(source.null_values),
        strings_can_be_null=True,
    )
    try:
        with contextlib.closing(open_raw(path)) as raw:
            stream = pa.PythonFile(raw, mode="r")
            quoting = _QuotingCheck(pa.CompressedInputStream(stream, "gzip") if _is_gzip(path) else stream, source)
            reader = pyarrow.csv.open_csv(
                pa.PythonFile(quoting, mode="r"),
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=source.delimiter, quote_char=source.quote, newlines_in_values=True
                ),
                convert_options=convert_options,
            )
            held: pa.RecordBatch | None = None
            for piece in itertools.chain(reader, [None]):
                # One piece behind the parser, so that the check has seen what follows the held one, or the file's end.
                if quoting.is_stray or (piece is None and quoting.is_open):
                    return records, False
                if held is not None:
                    texts = dict(zip(held.schema.names, held.columns, strict=True))
                    lines = np.zeros(held.num_rows, np.int64)  # with a bad row this reader stops before it would tell
                    batch, bad_rows = sort_rows(path, texts, expected, lines, parse_text)
                    if bad_rows:
                        return records, False
                    yield batch
                    records += held.num_rows
                held = piece
            return records, True
    except (pa.ArrowException, OSError, ValueError, KeyError):
        # Whatever it is, the careful reader meets it too, and can name the line.
        return records, False


def read_carefully(
    path: str, expected: Expected, source: CsvSource, skip_records: int = 0
) -> Iterator[pa.RecordBatch | BadRow]:
    """Reads as `read` does, in batches of any size, with Python's parser.

    Args:
        path: of the file.
        expected: what each row must have.
        source: how the text is delimited, quoted, and says missing.
        skip_records: records after the header to pass over.
    """
    # A process-wide setting of Python's parser; its default of 131,072 characters is no limit of ours.
    csv.field_size_limit(2**31 - 1)
    with _open_text(path) as text:
        reader = csv.reader(text, delimiter=source.delimiter, quotechar=source.quote, strict=True)
        header = next(reader)
        positions = [header.index(name) for name in expected.columns]
        rows: list[list[str | None]] = []
        lines: list[int] = []
        for line, fields in _records(path, reader):
            if skip_records > 0:
                skip_records -= 1
            elif isinstance(fields, str):
                yield BadRow(path, line, "", "", fields)
            elif len(fields) != len(header):
                reason = f"expected {len(header)} columns, got {len(fields)}"
                yield BadRow(path, line, "", "", reason)
            elif (bad_row := _undecodable(path, line, fields, expected, positions)) is not None:
                yield bad_row
            else:
                rows.append([None if fields[i] in source.null_values else fields[i] for i in positions])
                lines.append(line)
                if len(rows) == BATCH_ROWS:
                    yield from _sort(path, rows, lines, expected)
                    rows, lines = [], []
        yield from _sort(path, rows, lines, expected)


def _records(path: str, reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """First line of each record with its fields, or with what is wrong with it."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if _UNCLOSED_QUOTE in str(error):
                # Setting this one row aside would quietly take the rest of the file with it.
                raise RefusedError(f"{path}:{line}: a quote opened in this record is never closed") from error
            yield line, f"malformed quoting: {error}"
            continue
        if fields:
            yield line, fields


def _sort(
    path: str, rows: list[list[str | None]], lines: list[int], expected: Expected
) -> Iterator[pa.RecordBatch | BadRow]:
    if rows:
        arrays = [pa.array(texts, pa.string()) for texts in zip(*rows, strict=True)]
        texts = dict(zip(expected.columns, arrays, strict=True))
        batch, bad_rows = sort_rows(path, texts, expected, np.array(lines), parse_text)
        yield from bad_rows
        yield batch


def _undecodable(path: str, line: int, fields: list[str], expected: Expected, positions: list[int]) -> BadRow | None:
    if "".join(fields).isascii():
        return None
    for name, position in zip(expected.columns, positions, strict=True):
        encoded = fields[position].encode(errors="surrogateescape")
        try:
            encoded.decode()
        except UnicodeDecodeError:
            return BadRow(path, line, name, encoded.decode(errors="backslashreplace"), "expected UTF-8 text")
    return None


def column_names(path: str, source: CsvSource) -> tuple[str, ...]:
    """The names in a file's header.

    Raises:
        RefusedError: the file has none, or cannot be read.
    """
    with refusing_unreadable(path), _open_text(path) as text:
        try:
            header = next(csv.reader(text, delimiter=source.delimiter, quotechar=source.quote, strict=True), None)
        except csv.Error as error:
            raise RefusedError(f"{path}:1: malformed header: {error}") from error
        if not header:
            raise RefusedError(
                f"{path}: expected a header line, got {'an empty line' if header == [] else 'an empty file'}"
            )
    return tuple(header)


def _is_gzip(path: str) -> bool:
    return path.endswith(".gz")


@contextlib.contextmanager
def _open_text(path: str) -> Iterator[IO[str]]:
    """Opens the file as text; bytes that are not UTF-8 survive as lone surrogates, and line ends as they are."""
    with contextlib.ExitStack() as stack:
        binary: Any = stack.enter_context(contextlib.closing(open_raw(path)))
        if _is_gzip(path):
            binary = stack.enter_context(gzip.GzipFile(fileobj=binary))
        yield io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _QuotingCheck:
    """A stream of bytes that notices quotes which do not open, close or double as in RFC 4180.

    Attributes:
        is_stray: a quote opens in the middle of a field, or a field goes on after its closing quote.
        is_open: the bytes so far end inside a quoted field.
    """

    def __init__(self, stream: Any, source: CsvSource):
        self._stream = stream
        self._quote = source.quote.encode()
        self._at_edge = np.frombuffer(f"{source.delimiter}{source.quote}\r\n".encode(), np.uint8)
        self._before = b"\n"  # the last byte judged, then the one whose neighbour is not known yet
        self.is_stray = False
        self.is_open = False

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._stream.read(size)
        if not self.is_stray:
            self._judge(self._before + block.removeprefix(_BOM) if block else self._before + b"\n")
        return block

    def _judge(self, text: bytes) -> None:
        self._before = text[-2:]
        if self._quote not in text:
            return
        codes = np.frombuffer(text, np.uint8)
        quotes = 1 + np.flatnonzero(codes[1:-1] == self._quote[0])
        opens = (np.arange(len(quotes)) + self.is_open) % 2 == 0
        neighbours = codes[np.where(opens, quotes - 1, quotes + 1)]
        self.is_stray = not np.isin(neighbours, self._at_edge).all()
        self.is_open ^= len(quotes) % 2 == 1
