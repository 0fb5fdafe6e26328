"""Objects of Cloud Storage: whole reads, whole writes that can depend on what is there, listings.

Every call has a bound. A write that Cloud Storage has taken but whose answer was lost is known by its content. Beam's
own client, which pipelines use, can neither write on a condition nor say in one line what is wrong.
"""

import contextlib
import functools
import os
import pathlib
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from beam_jobs.endpoints import STORAGE_VARIABLE, credentials
from beam_jobs.workspace.cloud_storage_errors import NO_BUCKET, explained
from configs.errors import ForetableError

SCHEME = "gs://"
TIMEOUT_SECONDS = (10, 60)  # to connect, and of silence
RETRY_SECONDS = 180
_RETRY = DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
_HERE = threading.local()  # requests' sessions, which the client uses, are not made for several threads


class ChangedError(ForetableError):
    """What is there is not what a write expected to replace: somebody else was faster."""


def split_path(path: str) -> tuple[str, str]:
    """Bucket and name of the object at a `gs://` path."""
    bucket, _, name = path.removeprefix(SCHEME).partition("/")
    return bucket, name


def exists(path: str) -> bool:
    """Whether there is an object at `path`."""
    return generation_of(path) != 0


def generation_of(path: str) -> int:
    """Generation of the object at `path`; 0, as in a precondition, where there is none."""
    with _explaining(path, "storage.objects.get"):
        found = _bucket(path).get_blob(split_path(path)[1], timeout=TIMEOUT_SECONDS, retry=_RETRY)
    return int(found.generation) if found is not None else 0


def read(path: str, generation: int | None = None) -> bytes:
    """Whole content of the object at `path`, of the given generation if there is one.

    Raises:
        FileNotFoundError: there is no such object, or it has another generation now.
    """
    try:
        with _explaining(path, "storage.objects.get"):
            content: bytes = _blob(path).download_as_bytes(
                if_generation_match=generation, raw_download=True, timeout=TIMEOUT_SECONDS, retry=_RETRY
            )
    except ChangedError as error:
        raise FileNotFoundError(2, "no such object", path) from error
    return content


def write(path: str, content: bytes, replacing: int | None = None, patience_seconds: float = RETRY_SECONDS) -> int:
    """Writes a whole object and returns its generation.

    Args:
        replacing: generation that it replaces, 0 for none; whatever is there if it is not given.
        patience_seconds: after which to give up.

    Raises:
        ChangedError: another generation is there, with another content.
    """
    blob = _blob(path)
    try:
        with _explaining(path, "storage.objects.create"):
            blob.upload_from_string(
                content,
                content_type="application/octet-stream",
                if_generation_match=replacing,
                timeout=tuple(min(seconds, patience_seconds / 2) for seconds in TIMEOUT_SECONDS),
                retry=_RETRY.with_timeout(patience_seconds),
            )
    except ChangedError:
        # Our own write may be what is there: its answer was lost, and the client wrote again.
        there = generation_of(path)
        with contextlib.suppress(FileNotFoundError):
            if there and read(path, there) == content:
                return there
        raise
    return int(blob.generation)


def download(path: str, local: str) -> None:
    """Writes an object's content to a local file, whose folder is made if need be."""
    pathlib.Path(local).parent.mkdir(parents=True, exist_ok=True)
    with _explaining(path, "storage.objects.get"):
        _blob(path).download_to_filename(local, raw_download=True, timeout=TIMEOUT_SECONDS, retry=_RETRY)


def list_files(pattern: str) -> list[str]:
    """Paths of the objects that match a glob, sorted; `*` stays within a folder, `**` does not."""
    bucket, name = split_path(pattern)
    matches = re.compile(_expression(name)).fullmatch
    with _explaining(pattern, "storage.objects.list"):
        found = _client().list_blobs(
            bucket,
            prefix=re.split(r"[*?]", name)[0],
            match_glob=name if "[" not in name and "{" not in name else None,
            fields="items(name),nextPageToken",
            timeout=TIMEOUT_SECONDS,
            retry=_RETRY,
        )
        # What ends in a slash is the folder itself, which Cloud Storage FUSE makes an object of.
        names = sorted(blob.name for blob in found if matches(blob.name) and not blob.name.endswith("/"))
    return [f"{SCHEME}{bucket}/{name}" for name in names]


def delete(paths: Iterable[str], generation: int | None = None) -> None:
    """Deletes objects, as far as they are there.

    Raises:
        ChangedError: one has another generation than the given one.
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError), _explaining(path, "storage.objects.delete"):
            _blob(path).delete(if_generation_match=generation, timeout=TIMEOUT_SECONDS, retry=_RETRY)


def bucket_location(path: str) -> str:
    """Where the path's bucket is: a region or a multi-region.

    Raises:
        ForetableError: there is no such bucket, or it may not be looked at.
    """
    bucket = _bucket(path)
    with _explaining(path, "storage.buckets.get"):
        bucket.reload(timeout=TIMEOUT_SECONDS, retry=_RETRY)
    return str(bucket.location)


def granted_permissions(path: str, permissions: Iterable[str]) -> set[str]:
    """Those of the permissions on the path's bucket that the credentials have."""
    with _explaining(path, "storage.buckets.get"):
        granted = _bucket(path).test_iam_permissions(list(permissions), timeout=TIMEOUT_SECONDS, retry=_RETRY)
    return set(granted)


def _client() -> Any:
    """The calling thread's client of the server that the environment names."""
    endpoint = os.environ.get(STORAGE_VARIABLE)
    clients: dict[str | None, Any] = vars(_HERE).setdefault("clients", {})
    if endpoint not in clients:
        options = {"api_endpoint": endpoint} if endpoint else None
        clients[endpoint] = storage.Client(project=None, credentials=credentials(endpoint), client_options=options)
    return clients[endpoint]


def _bucket(path: str) -> Any:
    return _client().bucket(split_path(path)[0])


def _blob(path: str) -> Any:
    return _bucket(path).blob(split_path(path)[1])


@functools.cache
def _expression(glob: str) -> str:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*|\?)", glob))


@contextlib.contextmanager
def _explaining(path: str, permission: str) -> Iterator[None]:
    """Turns what Google's client raises into one line.

    Raises:
        FileNotFoundError: there is no such object.
        ChangedError: a precondition does not hold.
        ForetableError: the bucket is missing, a permission is denied, the credentials are bad, nobody answers.
    """
    try:
        yield
    except exceptions.PreconditionFailed as error:
        raise ChangedError(f"{path}: somebody else wrote it meanwhile; run again: what is finished is kept") from error
    except exceptions.NotFound as error:
        if permission in ("storage.objects.get", "storage.objects.delete") and NO_BUCKET not in str(error):
            raise FileNotFoundError(2, "no such object", path) from error
        raise explained(error, path, permission) from error
    except (
        exceptions.GoogleAPIError,
        auth_exceptions.GoogleAuthError,
        requests.RequestException,
        InvalidResponse,
        DataCorruption,
    ) as error:
        raise explained(error, path, permission) from error
