"""Shards: Parquet files of predictions, and the manifest that names them all.

A shard's bytes are determined by its rows alone. Its metadata says what it was made from and its pages carry checksums,
so that a rerun can tell a finished shard from anything else by reading it.
"""

import concurrent.futures
import dataclasses
import errno
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from configs.errors import ForetableError
from configs.features import ColumnType
from configs.outputs import ARRAY_TYPES, OutputType, TableType
from transforms.columns import ARROW_TYPES
from transforms.files import HashingFile, create_atomically, open_raw
from transforms.scoring.shard_records import ShardRecord, keep_record, kept_record
from transforms.space.blocks import BLOCK_ROWS, ShardRange

FORMAT = 1
PIPELINE = "pipeline"
# A model's float is a float32, and is kept so.
_VALUE_TYPES: dict[ColumnType, pa.DataType] = {**ARROW_TYPES, "float": pa.float32()}
OUTPUT_TYPES: dict[OutputType, pa.DataType] = {
    name: arrow_type
    for column_type, value_type in _VALUE_TYPES.items()
    for name, arrow_type in ((column_type, value_type), (ARRAY_TYPES[column_type], pa.list_(value_type)))
}
_METADATA_KEY = b"foretable"
_READ_BYTES = 1 << 20
# Another version of what computes and writes may round and encode otherwise. TensorFlow itself is not imported for it.
_RUNTIME = {name: importlib.metadata.version(name) for name in ("pyarrow", "tensorflow")}


@dataclasses.dataclass(frozen=True)
class TableColumn:
    """A column of the prediction table.

    Attributes:
        type: an array only of an output, a truth value only of a key.
        role: `key` names a row, `output` is the model's; `feature` is an input that names no row, beside the keys of a
            `rows` axis that has some.
    """

    name: str
    type: TableType
    role: Literal["key", "feature", "output"]
    description: str = ""

    @property
    def arrow_type(self) -> pa.DataType:
        """Its type in a shard."""
        if self.type == "bool":
            return pa.bool_()
        is_key_float = self.type == "float" and self.role != "output"
        return ARROW_TYPES["float"] if is_key_float else OUTPUT_TYPES[self.type]


def table_schema(columns: Iterable[TableColumn]) -> pa.Schema:
    """Schema of the prediction table."""
    return pa.schema([(column.name, column.arrow_type) for column in columns])


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What a shard was made from, beside its range: equal bytes, if TensorFlow and pyarrow are the same as well."""

    model_version: str
    transform_hash: str
    space_hash: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Every shard of a night's predictions, and what made them; written last, it says that they are all there.

    Attributes:
        rows: of all shards.
        block_rows: points in a block.
        columns: of the prediction table, in order.
        backend: what computed the predictions: `precompute.on` of the job file.
        format: of the shards and of this manifest.
    """

    rows: int
    shards: tuple[ShardRecord, ...]
    columns: tuple[TableColumn, ...]
    model_version: str
    transform_hash: str
    space_hash: str
    block_rows: int = BLOCK_ROWS
    backend: str = PIPELINE
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Manifest":
        """The manifest that `to_json` gave.

        Raises:
            ForetableError: it is of another format.
        """
        if values.get("format") != FORMAT:
            raise ForetableError(
                f"manifest.json: format {values.get('format')!r}, expected {FORMAT}:"
                " another version of foretable wrote it; run foretable precompute again"
            )
        shards = tuple(ShardRecord(**shard) for shard in values["shards"])
        columns = tuple(TableColumn(**column) for column in values["columns"])
        return cls(**{**values, "shards": shards, "columns": columns})


def make_manifest(
    records: Iterable[ShardRecord],
    columns: Iterable[TableColumn],
    fingerprint: Fingerprint,
    backend: str = PIPELINE,
) -> Manifest:
    """The manifest of these shards, in the order of their names."""
    shards = tuple(sorted(records, key=lambda record: record.name))
    return Manifest(
        rows=sum(shard.rows for shard in shards),
        shards=shards,
        columns=tuple(columns),
        backend=backend,
        **dataclasses.asdict(fingerprint),
    )


def write_shard(
    directory: str,
    shard: ShardRange,
    columns: Iterable[TableColumn],
    blocks: Iterable[pa.RecordBatch],
    fingerprint: Fingerprint,
) -> ShardRecord:
    """Writes a shard, one row group a block, while the next block is being made.

    The file gets its name when it is whole; a process that dies leaves a local `<name>.tmp`, which the next try
    overwrites. Its bytes are hashed on their way, and never read back.

    Args:
        blocks: each block's rows, maybe none, of these columns in this order; strings may be dictionary-encoded.

    Raises:
        ForetableError: the disk is full or the folder cannot be written.
    """
    columns = tuple(columns)
    path = FileSystems.join(directory, shard.name)
    try:
        with create_atomically(path, temporary=f"{path}.tmp") as file:
            hashing = HashingFile(file)
            rows = _write_blocks(hashing, columns, blocks, _metadata(shard, fingerprint))
        record = ShardRecord(shard.name, shard.first_block, shard.blocks, rows, hashing.tell(), hashing.hexdigest())
        keep_record(path, record)
    except (OSError, BeamIOError) as error:
        raise _write_error(path, error) from error
    return record


def check_shard(
    directory: str,
    shard: ShardRange,
    columns: Iterable[TableColumn],
    count_rows: Callable[[], int],
    fingerprint: Fingerprint,
) -> ShardRecord | None:
    """The record of the shard that is already there, if it is whole and made from the same things; else None.

    Holds its footer against what is expected. Then reads all of it, and holds its pages against their checksums; in an
    object store, which keeps checksums itself, a record kept beside the shard spares that.

    Args:
        count_rows: asked for the rows that it has to have, where a shard made from the same things is there.
    """
    path = FileSystems.join(directory, shard.name)
    if not FileSystems.exists(path):
        return None
    try:
        record = kept_record(path)
        with open_raw(path) as file:
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                if not _is_expected(parquet, table_schema(columns), _metadata(shard, fingerprint)):
                    return None
                rows = count_rows()
                if parquet.metadata.num_rows != rows:
                    return None
                if record is not None:
                    return record
                for index in range(parquet.num_row_groups):
                    parquet.read_row_group(index)  # raises where a page does not match its checksum
            file.seek(0)
            digest, size = hashlib.sha256(), 0
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except (OSError, pa.ArrowException):
        return None
    return ShardRecord(shard.name, shard.first_block, shard.blocks, rows, size, digest.hexdigest())


def _is_expected(parquet: pq.ParquetFile, schema: pa.Schema, metadata: bytes) -> bool:
    is_same = (parquet.metadata.metadata or {}).get(_METADATA_KEY) == metadata
    return is_same and bool(parquet.schema_arrow.equals(schema))


def _metadata(shard: ShardRange, fingerprint: Fingerprint) -> bytes:
    values = dataclasses.asdict(fingerprint) | {"format": FORMAT, "start": shard.start, "stop": shard.stop}
    return json.dumps(values | {"runtime": _RUNTIME}, sort_keys=True).encode()


def _write_blocks(
    file: HashingFile, columns: tuple[TableColumn, ...], blocks: Iterable[pa.RecordBatch], metadata: bytes
) -> int:
    iterator = iter(blocks)
    block = next(iterator, None)
    rows = 0
    with _open_writer(file, columns, table_schema(columns) if block is None else block.schema) as writer:
        # One thread, one block ahead: encoding overlaps with scoring, and no more than two blocks are in memory.
        with concurrent.futures.ThreadPoolExecutor(1, "parquet-writer") as thread:
            while block is not None:
                pending = thread.submit(writer.write_table, pa.Table.from_batches([block]), max(block.num_rows, 1))
                rows += block.num_rows
                block = next(iterator, None)
                pending.result()
        writer.add_key_value_metadata({_METADATA_KEY: metadata})
    return rows


def _open_writer(file: HashingFile, columns: tuple[TableColumn, ...], schema: pa.Schema) -> pq.ParquetWriter:
    strings = [column.name for column in columns if column.type == "string"]
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        # Strings come with their dictionary. To find one for numbers takes twice as long as to compress how they
        # repeat, and saves nothing. Byte-stream split would make predictions a quarter smaller in the same time, but
        # BigQuery does not document that it reads it.
        use_dictionary=strings,
        write_batch_size=BLOCK_ROWS,
        write_page_checksum=True,
        store_schema=False,  # readers get the plain types, whatever was dictionary-encoded here
    )


def _write_error(path: str, error: BaseException) -> ForetableError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ForetableError(f"{path}: no space left on the disk; free some and run again: finished shards are kept")
    return ForetableError(f"{path}: cannot write the shard: {error}")
