"""Folders and files on a custom job's mount of Cloud Storage: whole files, no renamed folders, what counts comes last."""

import os
import pathlib

import pytest

from models import mount
from models.mount import is_on_mount, local_path, read_folder, write_whole, written_folder


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket's folder on the mount."""
    monkeypatch.setenv(mount.VARIABLE, str(tmp_path / "gcs"))
    folder = tmp_path / "gcs" / "bucket"
    folder.mkdir(parents=True)
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("gs://bucket/run/model/", "/gcs/bucket/run/model/"),
        ("gs://bucket", "/gcs/bucket"),
        ("workspace/model", "workspace/model"),
        ("/gcs/bucket", "/gcs/bucket"),
    ],
)
def test_paths_in_a_custom_job(path, local, monkeypatch):
    monkeypatch.delenv(mount.VARIABLE, raising=False)
    assert local_path(path) == local
    assert is_on_mount(local) is local.startswith("/gcs")


def test_the_mount_may_be_elsewhere(bucket):
    assert local_path("gs://bucket/a") == str(bucket / "a")
    assert is_on_mount(bucket / "a")
    assert not is_on_mount("/gcs/bucket/a")
    assert not is_on_mount(f"{bucket.parent}-2/a")


def write_model(folder, graph, *variables):
    path = pathlib.Path(folder)
    (path / "variables").mkdir(parents=True)
    (path / "assets").mkdir()
    (path / "saved_model.pb").write_text(graph)
    for name in variables:
        (path / "variables" / name).write_text(graph)


def test_a_folder_is_replaced_by_copies_of_which_the_one_that_counts_is_last(bucket, monkeypatch):
    with written_folder(bucket / "model", last="saved_model.pb") as folder:
        write_model(folder, "old", "a", "b")
    steps = []
    copyfile, unlink = mount.shutil.copyfile, pathlib.Path.unlink
    model = bucket / "model"

    def copied(source, target):
        steps.append(f"copy {pathlib.Path(target).relative_to(model)}")
        return copyfile(source, target)

    def unlinked(path, **settings):
        steps.append(f"unlink {path.relative_to(model)}")
        return unlink(path, **settings)

    monkeypatch.setattr(mount.shutil, "copyfile", copied)
    monkeypatch.setattr(pathlib.Path, "unlink", unlinked)
    with written_folder(f"{model}/", last="saved_model.pb") as folder:
        assert not is_on_mount(folder)
        write_model(folder, "new", "b", "c")
    assert content(model) == {"saved_model.pb": "new", "variables/b": "new", "variables/c": "new"}
    assert (model / "assets").is_dir()
    assert steps == ["unlink saved_model.pb", "copy variables/b", "copy variables/c", "copy saved_model.pb"]


def test_no_folder_is_renamed_on_the_mount(bucket, monkeypatch):
    monkeypatch.setattr(os, "rename", None)
    monkeypatch.setattr(os, "replace", None)
    for _ in range(2):
        with written_folder(bucket / "model", last="saved_model.pb") as folder:
            write_model(folder, "graph")
        write_whole(bucket / "run" / "trainer.json", "{}")
    assert content(bucket) == {"model/saved_model.pb": "graph", "run/trainer.json": "{}"}


def test_what_fails_leaves_what_was_there(bucket):
    with written_folder(bucket / "model", last="saved_model.pb") as folder:
        write_model(folder, "old")

    def fail():
        with written_folder(bucket / "model", last="saved_model.pb") as folder:
            write_model(folder, "new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(bucket / "model") == {"saved_model.pb": "old"}


def test_a_folder_is_read_from_the_disk(bucket):
    (bucket / "weights").write_text("w")
    with read_folder(bucket) as folder:
        assert not is_on_mount(folder)
        assert content(pathlib.Path(folder)) == {"weights": "w"}
    assert not pathlib.Path(folder).exists()


def test_elsewhere_a_folder_is_itself_and_a_file_is_renamed_into_place(tmp_path):
    with written_folder(tmp_path / "model", last="saved_model.pb") as folder:
        assert folder == str(tmp_path / "model")
    with read_folder(tmp_path) as folder:
        assert folder == str(tmp_path)
    write_whole(tmp_path / "run" / "trainer.json", "{}")
    assert content(tmp_path) == {"run/trainer.json": "{}"}
