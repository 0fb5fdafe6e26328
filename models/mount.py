"""Cloud Storage as a custom job on Vertex AI sees it: a mount, where `gs://bucket/name` is `/gcs/bucket/name`.

It is Cloud Storage FUSE: a file is there as a whole once it is closed, a folder cannot be renamed, and writing here and
there in a file is slow. So folders are written on the machine's own disk and copied, the file that counts last.
https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system
https://cloud.google.com/storage/docs/cloud-storage-fuse/overview#differences-and-limitations
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

VARIABLE = "FORETABLE_GCS_MOUNT"
"""Names the mount where it is another folder than Vertex's."""


def mount() -> str:
    """The folder that has the buckets as its folders."""
    return os.environ.get(VARIABLE) or "/gcs"


def local_path(path: str) -> str:
    """Where a `gs://` path is on this machine: on the mount. Other paths are as they are."""
    return os.path.join(mount(), path.removeprefix("gs://")) if path.startswith("gs://") else path


def is_on_mount(path: str | os.PathLike[str]) -> bool:
    """Whether the path is one of Cloud Storage's."""
    return pathlib.Path(path).absolute().is_relative_to(mount())


@contextlib.contextmanager
def written_folder(folder: str | os.PathLike[str], last: str) -> Iterator[str]:
    """The folder to write; on the mount, one on the disk that takes its place after the block.

    The file named `last` goes first from the old folder and comes last into the new one: where it is, all is.
    """
    if not is_on_mount(folder):
        yield os.fspath(folder)
        return
    with tempfile.TemporaryDirectory(prefix="foretable-") as temporary:
        written = pathlib.Path(temporary, "written")
        yield str(written)
        target = pathlib.Path(folder)
        (target / last).unlink(missing_ok=True)
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for path in sorted(written.rglob("*"), key=lambda path: (path.name == last, path)):
            copy = target / path.relative_to(written)
            if path.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # not its times and rights, which objects do not have


@contextlib.contextmanager
def read_folder(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The folder to read here and there; on the mount, a copy of its files on the disk while the block runs."""
    if not is_on_mount(folder):
        yield os.fspath(folder)
        return
    with tempfile.TemporaryDirectory(prefix="foretable-") as temporary:
        for path in pathlib.Path(folder).iterdir():
            shutil.copyfile(path, pathlib.Path(temporary, path.name))
        yield temporary


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file of which readers see all or nothing."""
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_on_mount(target):
        target.write_text(text, encoding="utf-8")
        return
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, target)
