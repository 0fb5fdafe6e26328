"""Atomic writes, and unreadable files in one line."""

import zlib

import pyarrow as pa
import pytest

from configs.errors import RefusedError
from transforms.files import create_atomically, open_raw, refusing_unreadable


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "a.gz"
    for content in (b"old", b"new"):
        with create_atomically(str(path)) as file:
            file.write(content)
            file.flush()
            assert not path.exists() or path.read_bytes() == b"old"
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["a.gz"]
    with open_raw(str(path)) as file:
        assert file.read() == b"new"  # not unpacked, for all its name


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write_half():
        with create_atomically(str(path)) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    "error", [EOFError("ended"), zlib.error("bad"), OSError("gone"), pa.ArrowInvalid("broken\nsecond line")]
)
def test_unreadable_is_one_line_that_names_the_file(error):
    with pytest.raises(RefusedError) as caught, refusing_unreadable("a.gz"):
        raise error
    assert str(caught.value) == f"a.gz: cannot be read; truncated or corrupt? ({str(error).splitlines()[0]})"
