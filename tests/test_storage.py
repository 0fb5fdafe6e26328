"""Whole reads and atomic whole writes."""

import os
import pathlib

import pytest

from beam_jobs.workspace import storage
from configs.errors import ForetableError


def test_json_comes_back_as_written(tmp_path):
    path = str(tmp_path / "deep" / "er" / "marker.json")
    storage.write_json(path, {"rows": 3, "name": "Zoë"})
    assert storage.read_json(path) == {"rows": 3, "name": "Zoë"}
    assert os.listdir(tmp_path / "deep" / "er") == ["marker.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = str(tmp_path / "marker.json")
    storage.write_json(path, {"rows": 3})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ForetableError, match=r"^cannot write .*marker.json: No space left on device$"):
        storage.write_json(path, {"rows": 4})
    assert storage.read_json(path) == {"rows": 3}
    assert os.listdir(tmp_path) == ["marker.json"]


def test_a_workspace_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ForetableError, match=r"^cannot write .*: (Not a directory|File exists)$"):
        storage.write_bytes(str(tmp_path / "file" / "marker.json"), b"")


def test_broken_json_is_one_line(tmp_path):
    (tmp_path / "marker.json").write_text('{"rows": ')
    with pytest.raises(ForetableError, match=r"marker.json: not valid JSON: .* delete it to redo its stage"):
        storage.read_json(str(tmp_path / "marker.json"))


def test_nan_never_gets_into_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        storage.write_json(str(tmp_path / "marker.json"), {"mae": float("nan")})


def test_listing_is_sorted_and_by_glob(tmp_path):
    for name in ("b.parquet", "a.parquet", "a.tmp"):
        (tmp_path / name).touch()
    assert [pathlib.Path(p).name for p in storage.list_files(str(tmp_path), "*.parquet")] == ["a.parquet", "b.parquet"]
    assert storage.list_files(str(tmp_path / "nowhere")) == []


def test_a_local_folder_is_its_own_copy(tmp_path):
    with storage.local_copy(str(tmp_path)) as folder:
        assert folder == str(tmp_path)


@pytest.mark.parametrize(
    ("folder", "joined"),
    [("/a", "/a/b/c"), ("gs://bucket/a", "gs://bucket/a/b/c"), ("gs://bucket/a/", "gs://bucket/a/b/c")],
)
def test_join_knows_urls(folder, joined):
    assert storage.join(folder, "b", "c") == joined
