"""Reads a pinned BigQuery source by the Arrow streams of one Storage Read session: columns, from the wire on.

BigQuery promises which rows a session has, each in exactly one stream, and neither how it divides them nor in which
order: so the rows have none here (`unordered_rows`), and whoever freezes them puts them into one of their own.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from google.cloud import bigquery

from beam_jobs.warehouses.bigquery.clients import CALL_TIMEOUT_SECONDS, RECONNECT, RETRY, bigquery_client, read_client
from beam_jobs.warehouses.bigquery.errors import explained
from beam_jobs.warehouses.bigquery.pins import Pin, describe
from configs.cloud import Endpoints
from configs.errors import RefusedError
from configs.features import ColumnType
from configs.sources import BigQuerySource
from transforms.examples.readers.rows import BadRow, Expected, exact_batches, sort_rows
from transforms.examples.reading import Part

_NUMBERS = ("INTEGER", "INT64", "FLOAT", "FLOAT64", "NUMERIC", "BIGNUMERIC", "BOOLEAN", "BOOL")
_TEXTS = ("STRING", "BYTES", "DATE", "DATETIME", "TIME", "TIMESTAMP", "JSON", "GEOGRAPHY")
_READABLE: dict[ColumnType, tuple[str, ...]] = {"string": _NUMBERS + _TEXTS, "float": _NUMBERS, "int": _NUMBERS}


@dataclasses.dataclass(frozen=True)
class BigQueryReader:
    """Reads the rows of a session that is open for six hours; a part is a stream. See `reading.SourceReader`.

    Attributes:
        name: of the source, in messages.
        streams: names of the session's streams.
        schema: of the streams' batches, serialized.
        columns: the table's names of the columns, by ours.
        all_columns: of the table.
    """

    name: str
    pin: Pin
    endpoints: Endpoints
    streams: tuple[str, ...]
    schema: bytes
    columns: Mapping[str, str]
    all_columns: tuple[str, ...]

    def unordered_rows(self) -> int:
        """The table's rows, of which a `row_restriction` may leave fewer."""
        return self.pin.rows

    def parts(self) -> tuple[Part, ...]:
        """The streams; none of an empty table."""
        return tuple(Part(index, stream) for index, stream in enumerate(self.streams))

    def column_names(self) -> tuple[str, ...]:
        """The table's, or the query's."""
        return self.all_columns

    def read(self, part: Part, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
        """Reads one stream from its first row, and after a lost connection from where it broke off."""
        with explained(self.name):
            yield from exact_batches(self._sorted_rows(part.name, expected))

    def fingerprint(self) -> str:
        """Of the source when it was pinned."""
        return self.pin.fingerprint

    def _sorted_rows(self, stream: str, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        client = read_client(self.endpoints)
        with contextlib.closing(client.transport):
            for response in client.read_rows(stream, retry=RECONNECT):
                encoded = response.arrow_record_batch.serialized_record_batch
                rows = pa.ipc.read_record_batch(pa.py_buffer(encoded), schema)
                arrays = {name: rows.column(column) for name, column in self.columns.items()}
                # A row has no number here: streams differ from session to session.
                batch, bad_rows = sort_rows(self.name, arrays, expected, np.zeros(rows.num_rows, np.int64))
                yield from bad_rows
                yield batch


def open_bigquery(
    source: BigQuerySource, pin: Pin, columns: Mapping[str, ColumnType], endpoints: Endpoints
) -> BigQueryReader:
    """Opens a session over the columns of a pinned source.

    Raises:
        RefusedError: a column is not there, or its type is no `columns` type's.
        ForetableError: the session is refused: rights, a wrong `row_restriction`, a snapshot that is no longer kept.
    """
    name = describe(source)
    payer = source.project or pin.table.partition(".")[0]
    with explained(name):
        table = bigquery_client(payer, endpoints).get_table(pin.table, retry=RETRY, timeout=CALL_TIMEOUT_SECONDS)
        found = check_fields(name, table.schema, columns)
        session = _create_session(source, pin.table, pin.snapshot_time, list(found.values()), endpoints)
    streams = tuple(stream.name for stream in session.streams)
    names = tuple(field.name for field in table.schema)
    return BigQueryReader(name, pin, endpoints, streams, session.arrow_schema.serialized_schema, found, names)


def try_session(source: BigQuerySource, endpoints: Endpoints) -> None:
    """Opens a session over a source's table and reads nothing of it, which costs nothing.

    Raises:
        ForetableError: the session is refused: rights, an API that is off, a wrong `row_restriction`.
    """
    assert source.table is not None, source
    with explained(describe(source)):
        _create_session(source, source.table, None, (), endpoints, most_streams=1)


def check_fields(
    name: str, schema: Sequence[bigquery.SchemaField], columns: Mapping[str, ColumnType]
) -> dict[str, str]:
    """Finds columns in a table's schema, in which case does not tell names apart.

    Returns:
        The table's name of each column.

    Raises:
        RefusedError: a column is not there, is nested or repeated, or of a type that `columns` cannot be read from; a
            line for each.
    """
    fields = {field.name.casefold(): field for field in schema}
    problems = []
    for column, column_type in columns.items():
        field = fields.get(column.casefold())
        if field is None:
            names = ", ".join(field.name for field in schema)
            problems.append(f"{name}: no column {column!r}; its columns are {names}")
            continue
        field_type = f"ARRAY<{field.field_type}>" if field.mode == "REPEATED" else field.field_type
        if field_type not in _READABLE[column_type]:
            expected = "a column of plain values" if column_type == "string" else "a column of numbers"
            problems.append(f"{name}: column {column!r} is {field_type}; expected {expected} for type {column_type}")
    if problems:
        raise RefusedError("\n".join(problems))
    return {column: fields[column.casefold()].name for column in columns}


def distinct_source(source: BigQuerySource, columns: Sequence[str]) -> BigQuerySource:
    """The query for the combinations of columns that exist in a source."""
    selected = ", ".join(f"`{column}`" for column in columns)
    if source.table is not None:
        where = f" WHERE ({source.row_restriction})" if source.row_restriction is not None else ""
        query = f"SELECT DISTINCT {selected} FROM `{source.table}`{where}"
    else:
        # On lines of its own: it may end in a comment.
        query = f"SELECT DISTINCT {selected} FROM (\n{(source.query or '').rstrip().rstrip(';')}\n)"
    project = source.project or (source.table.partition(".")[0] if source.table else None)
    asked = {"table": None, "row_restriction": None, "query": query, "project": project}
    return BigQuerySource(**source.model_dump() | asked)


def _create_session(
    source: BigQuerySource,
    table_path: str,
    snapshot_time: str | None,
    columns: Sequence[str],
    endpoints: Endpoints,
    most_streams: int = 0,
) -> Any:
    """Opens a session; without columns, over all of them.

    Args:
        most_streams: 0 leaves their number to BigQuery, which knows how the rows lie.
    """
    from google.cloud.bigquery_storage_v1 import types

    project, dataset, table = table_path.split(".")
    snapshot = datetime.datetime.fromisoformat(snapshot_time) if snapshot_time is not None else None
    request = types.ReadSession(
        table=f"projects/{project}/datasets/{dataset}/tables/{table}",
        data_format=types.DataFormat.ARROW,
        table_modifiers=types.ReadSession.TableModifiers(snapshot_time=snapshot),
        read_options=types.ReadSession.TableReadOptions(
            selected_fields=columns,
            row_restriction=source.row_restriction or "",
            arrow_serialization_options=types.ArrowSerializationOptions(
                buffer_compression=types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
            ),
        ),
    )
    client = read_client(endpoints)
    with contextlib.closing(client.transport):
        payer = f"projects/{source.project or project}"
        return client.create_read_session(parent=payer, read_session=request, max_stream_count=most_streams)
