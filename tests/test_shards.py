"""Shards: deterministic bytes, whole or not there, and known again by a rerun."""

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems

from configs.errors import ForetableError
from transforms.scoring import shards
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import Fingerprint, Manifest, TableColumn, check_shard, make_manifest, write_shard
from transforms.space.blocks import ShardRange

SHARD = ShardRange(1, 3, 2, 2, 131_072, 262_144)
FINGERPRINT = Fingerprint("model", "transform", "space")
COLUMNS = (
    TableColumn("city", "string", "key", "Where it is"),
    TableColumn("area", "float", "key"),
    TableColumn("rooms", "int", "key"),
    TableColumn("price", "float", "output", "Predicted: price"),
    TableColumn("grade", "string", "output"),
    TableColumn("flat", "int", "output"),
)
NAMES = [column.name for column in COLUMNS]


def block(cities, prices):
    rows = len(cities)
    arrays = [
        pa.array(cities, pa.string()).dictionary_encode(),
        pa.array([0.1] * rows, pa.float64()),
        pa.array([None] * rows, pa.int64()),
        pa.array(prices, pa.float32()),
        pa.array(["hoch ü"] * rows, pa.string()),
        pa.array([2**53 + 1] * rows, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=NAMES)


BLOCKS = (block(["Bern", None, "Bern"], [1.5, 0.1, -3e38]), block(["Chur"], [2.0]))


def write(directory, blocks=BLOCKS, fingerprint=FINGERPRINT):
    return write_shard(str(directory), SHARD, COLUMNS, iter(blocks), fingerprint)


def check(directory, rows=4, fingerprint=FINGERPRINT, columns=COLUMNS, shard=SHARD):
    return check_shard(str(directory), shard, columns, lambda: rows, fingerprint)


def test_a_shard_holds_its_blocks_as_row_groups_of_plain_types(tmp_path):
    record = write(tmp_path)
    path = tmp_path / "part-00001-of-00003.parquet"
    data = path.read_bytes()
    assert record == ShardRecord(path.name, 2, 2, 4, len(data), hashlib.sha256(data).hexdigest())
    assert os.listdir(tmp_path) == [path.name]
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [3, 1]
    types = [pa.string(), pa.float64(), pa.int64(), pa.float32(), pa.string(), pa.int64()]
    assert file.schema_arrow == pa.schema(list(zip(NAMES, types, strict=True)))
    assert file.read().to_pydict() == {
        "city": ["Bern", None, "Bern", "Chur"],
        "area": [0.1] * 4,
        "rooms": [None] * 4,
        "price": pa.array([1.5, 0.1, -3e38, 2.0], pa.float32()).to_pylist(),
        "grade": ["hoch ü"] * 4,
        "flat": [2**53 + 1] * 4,
    }
    assert json.loads(file.metadata.metadata[b"foretable"]) == {
        "format": 1,
        "model_version": "model",
        "transform_hash": "transform",
        "space_hash": "space",
        "start": 131_072,
        "stop": 262_144,
        "runtime": {"pyarrow": pa.__version__, "tensorflow": importlib.metadata.version("tensorflow")},
    }


def test_same_rows_same_bytes(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first == second
    assert write(tmp_path / "c", [BLOCKS[1], BLOCKS[0]]).sha256 != first.sha256


@pytest.mark.parametrize(
    "blocks", [[], [block([], [])], [block([], []), BLOCKS[1]]], ids=["no block", "no row", "some"]
)
def test_excluded_blocks_leave_a_readable_shard(tmp_path, blocks):
    rows = sum(batch.num_rows for batch in blocks)
    assert write(tmp_path, blocks).rows == rows
    assert pq.read_table(tmp_path / SHARD.name).column_names == NAMES
    assert check(tmp_path, rows) is not None


def test_rows_are_counted_only_where_a_shard_made_from_the_same_things_is_there(tmp_path):
    counts = iter([4])

    def check_counting(fingerprint=FINGERPRINT):
        return check_shard(str(tmp_path), SHARD, COLUMNS, lambda: next(counts), fingerprint)

    assert check_counting() is None
    record = write(tmp_path)
    assert check_counting(dataclasses.replace(FINGERPRINT, model_version="other")) is None
    assert check_counting() == record
    assert next(counts, None) is None


def test_a_finished_shard_is_known_again(tmp_path):
    record = write(tmp_path)
    assert check(tmp_path) == record
    assert check(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    "expected",
    [
        {"rows": 5},
        *({"fingerprint": dataclasses.replace(FINGERPRINT, **{name: "x"})} for name in dataclasses.asdict(FINGERPRINT)),
        {"shard": dataclasses.replace(SHARD, stop=SHARD.stop - 1)},
        {"columns": COLUMNS[:-1]},
        {"columns": (*COLUMNS[:-1], TableColumn("flat", "string", "output"))},
        {"columns": (*COLUMNS[:-1], TableColumn("flats", "int", "output"))},
    ],
    ids=["rows", "model", "transform", "space", "range", "columns", "type", "name"],
)
def test_a_shard_made_from_something_else_is_not(tmp_path, expected):
    write(tmp_path)
    assert check(tmp_path, **expected) is None


@pytest.mark.parametrize("library", ["pyarrow", "tensorflow"])
def test_a_shard_made_by_another_version_is_not(tmp_path, monkeypatch, library):
    write(tmp_path)
    monkeypatch.setitem(shards._RUNTIME, library, "1.2.3")
    assert check(tmp_path) is None


def test_a_damaged_shard_is_not(tmp_path):
    write(tmp_path)
    path = tmp_path / SHARD.name
    data = path.read_bytes()
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert check(tmp_path) is None, size
    # Each byte of the first column's pages, footer untouched: only the pages' checksums can tell.
    column = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(3)
    for offset in range(
        column.data_page_offset + column.total_compressed_size - 12,
        column.data_page_offset + column.total_compressed_size,
    ):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        assert check(tmp_path) is None, offset
    path.write_bytes(data)
    assert check(tmp_path) is not None


def test_a_failure_while_scoring_leaves_nothing_behind(tmp_path):
    def blocks():
        yield BLOCKS[0]
        raise ForetableError("no more")

    with pytest.raises(ForetableError, match=r"^no more$"):
        write(tmp_path, blocks())
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_the_shard_that_was_there(tmp_path):
    record = write(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, (BLOCKS[1 // index] for index in (1, 0)))
    assert check(tmp_path) == record
    assert os.listdir(tmp_path) == [SHARD.name]


class FullDisk:
    """A file on a disk with `space` bytes left."""

    def __init__(self, file, space):
        self.file, self.space = file, space

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, data):
        self.space -= len(data)
        if self.space < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def flush(self):
        self.file.flush()


@pytest.mark.parametrize("space", [0, 10, 600, 1500])
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, space):
    create = FileSystems.create
    monkeypatch.setattr(FileSystems, "create", lambda path, **options: FullDisk(create(path, **options), space))
    with pytest.raises(ForetableError) as caught:
        write(tmp_path)
    path = tmp_path / SHARD.name
    assert str(caught.value) == f"{path}: no space left on the disk; free some and run again: finished shards are kept"
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ForetableError, match=r"part-00001-of-00003\.parquet: cannot write the shard: "):
        write(tmp_path / "file")


def test_manifest_orders_shards_and_survives_json():
    records = [ShardRecord(f"part-0000{index}-of-00003.parquet", index, 1, 10, 99, "ab") for index in (2, 0, 1)]
    manifest = make_manifest(records, COLUMNS, FINGERPRINT)
    assert [shard.first_block for shard in manifest.shards] == [0, 1, 2]
    assert manifest.rows == 30
    assert (manifest.model_version, manifest.transform_hash, manifest.space_hash) == ("model", "transform", "space")
    assert (manifest.block_rows, manifest.backend, manifest.format) == (65_536, "pipeline", 1)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    with pytest.raises(ForetableError, match=r"manifest\.json: format 2, expected 1"):
        Manifest.from_json(manifest.to_json() | {"format": 2})
