"""Files of sources and run directories, through Beam's FileSystems, so that `gs://` works where credentials are."""

import contextlib
import hashlib
import logging
import pathlib
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from configs.errors import RefusedError

_UPLOAD_BYTES = 1 << 20
_LOGGER = logging.getLogger(__name__)


def open_raw(path: str) -> BinaryIO:
    """Opens a file for reading its bytes as they are, whatever its name says about compression."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def is_local(path: str) -> bool:
    """Whether `path` has no URL scheme."""
    return FileSystems.get_scheme(path) is None


@contextlib.contextmanager
def create_atomically(path: str, temporary: str = "") -> Iterator[BinaryIO]:
    """Opens a file to write, which gets its name when the block ends without an error: readers see all of it or none.

    A local file is written beside `path` and renamed. A file for an object store, which shows whole objects only, is
    written on this machine and then uploaded: it costs one write there, and what failed half-way leaves nothing.

    Args:
        temporary: name beside `path`, which a process that is killed leaves behind; by default another one each time.
    """
    if not is_local(path):
        with tempfile.TemporaryFile(prefix="foretable-") as local:
            yield local
            _upload(local, path)
        return
    temporary = temporary or f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise


def _upload(local: IO[bytes], path: str) -> None:
    """Uploads a file, a second time from its beginning if need be.

    Beam's client tries each of its calls again; but where the answer to the last one is lost, which ends the upload, it
    finds none to go on with.
    """
    for tries_left in (1, 0):
        local.seek(0)
        try:
            with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
                shutil.copyfileobj(local, remote, _UPLOAD_BYTES)
            return
        except Exception as error:
            if not tries_left:
                raise
            _LOGGER.warning("%s: the upload failed, once more: %s", path, error)


def upload_folder(source: str, destination: str, last: str) -> None:
    """Puts a local folder in the place of one in an object store.

    The file named `last` goes first from the old folder and comes last into the new one: where it is, all is.
    """
    (match,) = FileSystems.match([FileSystems.join(destination, "**")])
    old = sorted((file.path for file in match.metadata_list), key=lambda path: (not path.endswith(f"/{last}"), path))
    for path in old:
        FileSystems.delete([path])
    files = [path for path in pathlib.Path(source).rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name == last, path)):
        with create_atomically(FileSystems.join(destination, path.relative_to(source).as_posix())) as remote:
            remote.write(path.read_bytes())


@contextlib.contextmanager
def refusing_unreadable(path: str) -> Iterator[None]:
    """Turns what readers of files raise about a truncated, corrupt or forbidden one into one line that names it.

    Raises:
        RefusedError: the file cannot be read to its end.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise RefusedError(f"{path}: cannot be read; truncated or corrupt? ({reason})") from error


class HashingFile:
    """A file to write to that knows the SHA-256 of what went through it."""

    closed = False

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        """Writes all of `data`."""
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def flush(self) -> None:
        """Flushes the file."""
        self._file.flush()

    def close(self) -> None:
        """Ends the writing; the file itself stays open."""
        self.closed = True

    def hexdigest(self) -> str:
        """SHA-256 of what was written."""
        return self._digest.hexdigest()
