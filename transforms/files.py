"""Files of sources and run directories, through Beam's FileSystems, so that `gs://` works where credentials are."""

import contextlib
import secrets
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from configs.errors import RefusedError


def open_raw(path: str) -> BinaryIO:
    """Opens a file for reading its bytes as they are, whatever its name says about compression."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@contextlib.contextmanager
def create_atomically(path: str) -> Iterator[BinaryIO]:
    """Opens a file to write under a temporary name beside `path`, and renames it when the block ends without an error.

    Readers see the whole file or none. A process that is killed meanwhile leaves its temporary file behind, under a
    name that ends in `.tmp`. In an object store the rename is a copy, but shows whole objects only as well.
    """
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise


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
