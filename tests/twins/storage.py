"""Cloud Storage on loopback: gcp-storage-emulator, behind a proxy that adds what it lacks, generation preconditions."""

import contextlib
import dataclasses
import pathlib
import sys
import uuid
from collections.abc import Iterator

from twins.processes import ROOT, answers_http, running, twin_environment

BUCKET = "bkt"


@dataclasses.dataclass(frozen=True)
class StorageTwin:
    """A running server.

    Attributes:
        endpoint: `http://127.0.0.1:port`.
        emulator: address of the server behind the preconditions.
        folder: where it keeps objects, a folder a bucket.
    """

    endpoint: str
    emulator: str
    folder: pathlib.Path
    bucket: str = BUCKET

    def url(self, name: str = "") -> str:
        """`gs://` URL of an object or folder; without a name, of a folder that no other test uses."""
        return f"gs://{self.bucket}/{name or uuid.uuid4().hex[:12]}"


@contextlib.contextmanager
def storage_server(folder: pathlib.Path) -> Iterator[StorageTwin]:
    """Runs the server with its objects and log in `folder`."""
    program = str(twin_environment() / "bin" / "gcp-storage-emulator")

    def command(ports):
        start = ["start", "--quiet", "--host", "127.0.0.1", "--port", str(ports[0]), f"--default-bucket={BUCKET}"]
        return [program, "-d", str(folder / "objects"), *start]

    def is_ready(ports):
        return answers_http(f"http://127.0.0.1:{ports[0]}/")

    def conditions(ports):
        return [sys.executable, "-m", "twins.preconditions", emulator, str(ports[0])]

    tests = {"PYTHONPATH": str(ROOT / "tests")}
    with running(command, 1, is_ready, folder / "log.txt") as (port,):
        emulator = f"http://127.0.0.1:{port}"
        with running(conditions, 1, is_ready, folder / "preconditions.txt", tests) as (port,):
            yield StorageTwin(f"http://127.0.0.1:{port}", emulator, folder / "objects" / ".cloudstorage")
