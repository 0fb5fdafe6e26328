"""Files of a workspace, local or behind a URL such as `gs://`: whole reads, atomic whole writes, listing.

Local files go through the operating system, so that a command which only looks at markers need not import Beam;
anything with a scheme goes through Beam's FileSystems.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Collection, Iterator
from typing import Any

from configs.errors import ForetableError


def is_local(path: str) -> bool:
    """Whether `path` has no URL scheme."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """Joins path segments, with `/` behind a URL."""
    return os.path.join(folder, *names) if is_local(folder) else "/".join([folder.rstrip("/"), *names])


def exists(path: str) -> bool:
    """Whether there is a file or folder at `path`."""
    return os.path.exists(path) if is_local(path) else bool(_filesystems().exists(path))


def list_files(folder: str, pattern: str = "*") -> list[str]:
    """Paths in `folder` that match the glob `pattern`, sorted."""
    if is_local(folder):
        return sorted(str(path) for path in pathlib.Path(folder).glob(pattern))
    (match,) = _filesystems().match([join(folder, pattern)])
    return sorted(metadata.path for metadata in match.metadata_list)


def make_folder(folder: str) -> None:
    """Makes a local folder with its parents; an object store has none to make.

    Raises:
        ForetableError: it cannot be made.
    """
    if is_local(folder):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise ForetableError(f"cannot write {folder}: {error.strerror}") from error


def remove_all_but(folder: str, names: Collection[str]) -> None:
    """Removes the files of a folder that are not among `names`: what an earlier, killed or otherwise set try left."""
    strays = [path for path in list_files(folder) if path.rpartition("/")[2] not in names]
    if not is_local(folder):
        if strays:
            _filesystems().delete(strays)
        return
    for path in strays:
        os.unlink(path)


def read_bytes(path: str) -> bytes:
    """Whole content of the file at `path`."""
    if is_local(path):
        return pathlib.Path(path).read_bytes()
    with _filesystems().open(path, "application/octet-stream", _uncompressed()) as file:
        return bytes(file.read())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file: readers see the old content or the new one, never a part.

    Locally it is written to a temporary name, flushed to disk and renamed; an object store shows whole objects only.

    Raises:
        ForetableError: it cannot be written; what was there before still is.
    """
    if not is_local(path):
        with _filesystems().create(path, "application/octet-stream", _uncompressed()) as file:
            file.write(content)
        return
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise ForetableError(f"cannot write {path}: {error.strerror}") from error


def read_json(path: str) -> Any:
    """Content of the JSON file at `path`.

    Raises:
        ForetableError: it is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise ForetableError(f"{path}: not valid JSON: {error}; delete it to redo its stage") from error


def write_json(path: str, tree: Any) -> None:
    """Writes `tree` as JSON, as `write_bytes` does."""
    write_bytes(path, json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def digest_of(tree: Any) -> str:
    """SHA-256 of the canonical JSON of `tree`."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def local_copy(folder: str) -> Iterator[str]:
    """The folder itself if it is local, else a temporary local copy: TensorFlow gets local paths only."""
    if is_local(folder):
        yield folder
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="foretable-") as target:
        (match,) = _filesystems().match([join(folder, "**")])
        for metadata in match.metadata_list:
            path = pathlib.Path(target, metadata.path.removeprefix(folder.rstrip("/") + "/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_bytes(metadata.path))
        yield target


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _uncompressed() -> str:
    from apache_beam.io.filesystem import CompressionTypes

    return str(CompressionTypes.UNCOMPRESSED)
