"""Folders of an object store on this machine."""

import pathlib

import pytest
from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.filesystems import FileSystems

from beam_jobs.workspace import storage
from transforms.local_copies import local_folder


@pytest.fixture
def folder(cloud):
    url = cloud.storage.url()
    storage.write_bytes(f"{url}/model/saved_model.pb", b"graph")
    storage.write_bytes(f"{url}/model/variables/variables.index", b"index")
    return f"{url}/model"


def content(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in pathlib.Path(path).rglob("*") if file.is_file()}


def test_a_local_folder_is_itself(tmp_path):
    assert local_folder(str(tmp_path)) == str(tmp_path)


def test_a_remote_one_is_copied_whole_and_once(folder):
    copy = local_folder(folder)
    assert content(copy) == {"saved_model.pb": b"graph", "variables/variables.index": b"index"}
    assert local_folder(folder) == copy


def test_a_file_that_changed_makes_another_copy(folder):
    before = local_folder(folder)
    storage.write_bytes(f"{folder}/saved_model.pb", b"another graph")
    assert content(local_folder(folder))["saved_model.pb"] == b"another graph"
    assert content(before)["saved_model.pb"] == b"graph"


def test_two_empty_folders_are_not_one(cloud):
    assert local_folder(cloud.storage.url()) != local_folder(cloud.storage.url())


def test_a_folder_that_is_an_object_is_no_file(folder, monkeypatch):
    """Cloud Storage FUSE, which training jobs write through, makes an object of each folder."""
    match = FileSystems.match

    def with_folders(patterns):
        (found,) = match(patterns)
        places = [FileMetadata(f"{folder}/{name}", 0, 1.0) for name in ("", "variables/")]
        return [MatchResult(patterns[0], [*places, *found.metadata_list])]

    monkeypatch.setattr(FileSystems, "match", with_folders)
    assert content(local_folder(folder)) == {"saved_model.pb": b"graph", "variables/variables.index": b"index"}
