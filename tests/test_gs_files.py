"""Files that pipelines write on `gs://`: whole or not there, the same bytes as on a disk, known again by a rerun."""

import contextlib
import dataclasses
import os
import pathlib

import pyarrow as pa
import pytest
from test_shards import BLOCKS, FINGERPRINT, SHARD, check, write
from twins.proxy import proxy

from beam_jobs.workspace import cloud_storage, storage
from transforms.files import create_atomically, open_raw, upload_folder
from transforms.local_copies import local_folder
from transforms.scoring.shards import check_shard
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace, load_axes, save_axes


@pytest.fixture
def folder(cloud):
    return cloud.storage.url()


@pytest.fixture
def calls(cloud, monkeypatch):
    """Calls on the store with the bytes of their replies, from here on."""
    seen = []

    def count(request, forward):
        reply = forward(request)
        seen.append((str(request), len(reply.body)))
        return reply

    with proxy(cloud.storage.endpoint, count) as endpoint:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        yield seen


def names(folder):
    return [path.removeprefix(f"{folder}/") for path in storage.list_files(folder, "**")]


def test_a_file_appears_whole_and_replaces_the_old_one(folder):
    for content in (b"old", b"new" * 1_000_000):
        with create_atomically(f"{folder}/a.gz") as file:
            file.write(content)
            file.flush()
            assert names(folder) == ([] if content == b"old" else ["a.gz"])
        with open_raw(f"{folder}/a.gz") as file:
            assert file.read() == content
    assert names(folder) == ["a.gz"]


def test_a_failed_write_leaves_what_was_there(folder):
    storage.write_bytes(f"{folder}/a", b"old")

    def write_half():
        with create_atomically(f"{folder}/a") as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert storage.read_bytes(f"{folder}/a") == b"old"
    assert names(folder) == ["a"]


def test_an_upload_that_breaks_off_leaves_nothing(folder, cloud, monkeypatch):
    def break_off(request, forward):
        if request.method == "PUT" and b"\x00" * 100 in request.body:
            return dataclasses.replace(forward(dataclasses.replace(request, method="GET", body=b"")), status=403)
        return forward(request)

    with proxy(cloud.storage.endpoint, break_off) as endpoint, monkeypatch.context() as broken:
        broken.setenv("STORAGE_EMULATOR_HOST", endpoint)
        with pytest.raises(Exception, match="403"), create_atomically(f"{folder}/a") as file:
            file.write(b"\x00" * 40_000_000)  # three chunks
    assert names(folder) == []


def make_model(path, **files):
    for name, content in files.items():
        (path / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (path / name.replace("__", "/")).write_bytes(content)
    (path / "saved_model.pb").write_bytes(files.get("graph", b"graph"))
    return str(path)


def test_a_folder_is_uploaded_with_its_last_file_last(folder, tmp_path):
    source = make_model(tmp_path / "model", variables__a=b"1", zzz=b"2")
    upload_folder(source, f"{folder}/model", last="saved_model.pb")
    assert names(folder) == ["model/saved_model.pb", "model/variables/a", "model/zzz"]
    order = sorted(names(folder), key=lambda name: cloud_storage.generation_of(f"{folder}/{name}"))
    assert order[-1] == "model/saved_model.pb"


def test_a_folder_takes_the_place_of_the_old_one(folder, tmp_path):
    upload_folder(make_model(tmp_path / "old", only_in_the_old=b"1"), f"{folder}/model", last="saved_model.pb")
    upload_folder(make_model(tmp_path / "new", only_in_the_new=b"1"), f"{folder}/model", last="saved_model.pb")
    assert names(folder) == ["model/only_in_the_new", "model/saved_model.pb"]


@pytest.mark.parametrize("refused", ["DELETE", "PUT"])
def test_a_replacement_that_breaks_off_is_no_model(folder, tmp_path, cloud, monkeypatch, refused):
    """Killed or refused in between, the folder has no graph: not the new one yet, and not the old one any more."""
    upload_folder(make_model(tmp_path / "old", a=b"1", b=b"2"), f"{folder}/model", last="saved_model.pb")
    seen = []

    def refuse_the_second(request, forward):
        is_batch = request.method == "POST" and b"DELETE" in request.body
        if (refused == "DELETE" and is_batch) or request.method == refused:
            seen.append(request)
            if len(seen) >= 2:
                return dataclasses.replace(forward(dataclasses.replace(request, method="GET", body=b"")), status=403)
        return forward(request)

    with proxy(cloud.storage.endpoint, refuse_the_second) as endpoint, monkeypatch.context() as broken:
        broken.setenv("STORAGE_EMULATOR_HOST", endpoint)
        with contextlib.suppress(Exception):
            upload_folder(make_model(tmp_path / "new", a=b"3", b=b"4"), f"{folder}/model", last="saved_model.pb")
    assert len(seen) >= 2
    assert "model/saved_model.pb" not in names(folder)


def test_a_folder_is_copied_once_for_as_long_as_it_does_not_change(folder, tmp_path, calls):
    upload_folder(make_model(tmp_path / "model", variables__a=b"1"), f"{folder}/model", last="saved_model.pb")
    copy = local_folder(f"{folder}/model")
    assert pathlib.Path(copy, "variables", "a").read_bytes() == b"1"
    calls.clear()
    assert local_folder(f"{folder}/model") == copy
    assert [call for call, _ in calls if "/o" in call] == ["GET /storage/v1/b/bkt/o"]  # one listing, no download
    upload_folder(make_model(tmp_path / "model", variables__a=b"2"), f"{folder}/model", last="saved_model.pb")
    assert pathlib.Path(local_folder(f"{folder}/model"), "variables", "a").read_bytes() == b"2"


def test_a_shard_has_the_bytes_that_it_has_on_a_disk(folder, tmp_path):
    assert write(folder) == write(tmp_path)
    assert storage.read_bytes(f"{folder}/{SHARD.name}") == (tmp_path / SHARD.name).read_bytes()


def test_a_finished_shard_is_known_by_its_footer_and_its_record(folder, calls):
    rows = [pa.RecordBatch.from_pylist(BLOCKS[0].to_pylist() * 20_000, BLOCKS[0].schema)] * 4
    written = write(folder, rows)
    calls.clear()
    assert check(folder, rows=240_000) == written
    read = [length for call, length in calls if call.endswith(".parquet") and length > 2_000]
    assert sum(read) < 70_000, f"{calls} of {written.bytes} bytes"


def test_a_shard_without_its_record_is_read_and_hashed(folder):
    written = write(folder)
    cloud_storage.delete([f"{folder}/{SHARD.name}.json"])  # killed between the two
    assert check(folder) == written


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"record": {"name": "a"}, "checksum": "b"}',
        b'{"record": {}}',
        b'{"record": 1}',
    ],
)
def test_a_shard_beside_something_that_is_no_record_is_read_and_hashed(folder, content):
    written = write(folder)
    storage.write_bytes(f"{folder}/{SHARD.name}.json", content)
    assert check(folder) == written


def test_a_record_speaks_of_the_object_that_was_written_and_no_other(folder):
    write(folder)
    content = bytearray(storage.read_bytes(f"{folder}/{SHARD.name}"))
    content[60] ^= 1
    storage.write_bytes(f"{folder}/{SHARD.name}", bytes(content))
    assert check(folder) is None


@pytest.mark.parametrize("change", [{"rows": 5}, {"fingerprint": "other"}], ids=["rows", "fingerprint"])
def test_a_shard_of_something_else_is_written_anew(folder, change):
    write(folder)
    if "fingerprint" in change:
        change = {"fingerprint": dataclasses.replace(FINGERPRINT, model_version="other")}
    assert check(folder, **change) is None


def test_a_shard_that_is_not_there_is_not_there(folder):
    assert check_shard(folder, SHARD, (), lambda: 4, None) is None


def test_no_record_is_kept_on_a_disk(tmp_path):
    write(tmp_path)
    assert os.listdir(tmp_path) == [SHARD.name]


def test_axes_come_back_as_saved_and_old_ones_go(folder):
    axes = [Axis(name, "values", pa.table({name: [1, 2, None]}), (name,)) for name in ("a", "b", "c")]
    save_axes(InputSpace(tuple(axes)), folder)
    paths = save_axes(InputSpace(tuple(axes[1:])), folder)
    assert paths == [f"{folder}/00-b.parquet", f"{folder}/01-c.parquet"] == storage.list_files(folder)
    assert [axis.name for axis in load_axes(folder)] == ["b", "c"]
    assert load_axes(folder)[1].table == axes[2].table
