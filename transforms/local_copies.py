"""Folders of an object store, copied to this machine for TensorFlow.

TensorFlow reaches `gs://` by a client of its own, which knows neither the address nor the credentials that Beam's has.
So it gets local paths only, on the machine that starts a night and on every worker.
"""

import os
import tempfile
import threading

from apache_beam.io.filesystems import FileSystems

from transforms.files import open_raw

_COPYING = threading.Lock()
_copies: dict[tuple[object, ...], tempfile.TemporaryDirectory[str]] = {}


def local_folder(folder: str) -> str:
    """The folder itself if it is local, else a copy of it.

    A process copies a folder once for as long as its files do not change, and removes the copies when it ends.
    """
    if FileSystems.get_scheme(folder) is None:
        return folder
    (match,) = FileSystems.match([FileSystems.join(folder, "**")])
    files = sorted(
        (file.path, file.size_in_bytes, file.last_updated_in_seconds)
        for file in match.metadata_list
        if not file.path.endswith("/")  # the folder itself, which Cloud Storage FUSE makes an object of
    )
    with _COPYING:  # several Beam threads ask at once; only one may copy
        if (state := (folder, *files)) not in _copies:
            target = tempfile.TemporaryDirectory(prefix="foretable-")
            for path, _, _ in files:
                _copy(path, os.path.join(target.name, path.removeprefix(folder.rstrip("/") + "/")))
            _copies[state] = target
        return _copies[state].name


def _copy(source: str, destination: str) -> None:
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with open_raw(source) as remote, open(destination, "wb") as local:
        while chunk := remote.read(1 << 20):
            local.write(chunk)
