"""Files of a workspace, local or on `gs://`: whole reads, atomic whole writes, listing.

Local files go through the operating system and objects through Google's client, so that a command which only looks at
markers need not import Beam.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from beam_jobs.workspace.cloud_storage_errors import explained_text
from configs.errors import ForetableError

Version = int | None
Result = TypeVar("Result")
_READS_AT_ONCE = 8  # the client keeps ten connections


def is_local(path: str) -> bool:
    """Whether `path` has no URL scheme."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """Joins path segments, with `/` behind a URL."""
    return os.path.join(folder, *names) if is_local(folder) else "/".join([folder.rstrip("/"), *names])


def exists(path: str) -> bool:
    """Whether there is a file at `path`, or a local folder."""
    return os.path.exists(path) if is_local(path) else _objects().exists(path)


def list_files(folder: str, pattern: str = "*") -> list[str]:
    """Paths in `folder` that match the glob `pattern`, sorted."""
    if is_local(folder):
        return sorted(str(path) for path in pathlib.Path(folder).glob(pattern))
    return _objects().list_files(join(folder, pattern))


def for_each(function: Callable[[str], Result], paths: Sequence[str]) -> list[Result]:
    """What `function` returns for each path; on `gs://`, where a file takes some 50 ms to come, several at once."""
    if all(is_local(path) for path in paths):
        return [function(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(_READS_AT_ONCE, "storage") as threads:
        return list(threads.map(function, paths))


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
        _objects().delete(strays)
        return
    for path in strays:
        os.unlink(path)


def read_bytes(path: str) -> bytes:
    """Whole content of the file at `path`."""
    if is_local(path):
        return pathlib.Path(path).read_bytes()
    return _objects().read(path)


def version_of(path: str) -> Version:
    """What is at `path`, for a write that replaces this and nothing else.

    Local files have no versions: the run's lock, which ends with its holder, is enough for them.
    """
    return None if is_local(path) else _objects().generation_of(path)


def write_bytes(path: str, content: bytes, replacing: Version = None) -> None:
    """Writes a whole file: readers see the old content or the new one, never a part.

    Locally it is written to a temporary name, flushed to disk and renamed; an object store shows whole objects only.

    Args:
        replacing: the version that it replaces; whatever is there if it is not given.

    Raises:
        ForetableError: it cannot be written, or another version is there; what was there before still is.
    """
    if not is_local(path):
        _objects().write(path, content, replacing)
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


def write_json(path: str, tree: Any, replacing: Version = None) -> None:
    """Writes `tree` as JSON, as `write_bytes` does."""
    write_bytes(path, json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n", replacing)


def digest_of(tree: Any) -> str:
    """SHA-256 of the canonical JSON of `tree`."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def local_copy(folder: str) -> Iterator[str]:
    """The folder itself if it is local, else a copy that this process makes once: TensorFlow gets local paths only."""
    if is_local(folder):
        yield folder
        return
    from transforms.local_copies import local_folder

    yield local_folder(folder)


def download(path: str, local: str) -> None:
    """Copies a file on `gs://` to a local path, whose folder is made if need be."""
    _objects().download(path, local)


def download_folder(folder: str, target: str) -> None:
    """Copies a folder on `gs://` with all that is in it into a local one."""
    for path in list_files(folder, "**"):
        download(path, os.path.join(target, path.removeprefix(folder.rstrip("/") + "/")))


def problem_in(error: BaseException) -> ForetableError | None:
    """What Cloud Storage said, as one line, if that is what made `error`; a worker hands it over as a traceback."""
    chain: list[Any] = [error]
    while chain:
        link = chain.pop(0)
        if not isinstance(link, BaseException) or isinstance(link, ForetableError):
            continue
        if (problem := explained_text(f"{type(link).__name__}: {link}")) is not None:
            return problem
        # Beam keeps what its file systems raise beside their paths.
        chain += [*(getattr(link, "exception_details", None) or {}).values(), link.__cause__ or link.__context__]
    return None


def _objects() -> Any:
    from beam_jobs.workspace import cloud_storage  # its import takes a second, which a local workspace does not need

    return cloud_storage
