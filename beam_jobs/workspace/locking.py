"""One run of a job and date at a time, by a lock that ends when its holder dies.

On this machine the operating system sees to that; on an object store, a lease does: see `leases`.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from beam_jobs.workspace import storage
from configs.errors import ForetableError, RefusedError


class RunLock:
    """The lock of a run, to be asked before each commit whether it is still ours."""

    def __init__(self) -> None:
        self._check: Callable[[], None] = _always_held

    @contextlib.contextmanager
    def held(self, path: str, what: str, wait: bool = False) -> Iterator[None]:
        """Holds the lock at `path`: see `locked`."""
        try:
            with locked(path, what, wait) as self._check:
                yield
        finally:
            self._check = _always_held

    def check(self) -> None:
        """Proves that the lock is held; where none was asked for, there is nothing to prove.

        Raises:
            RefusedError: somebody else has taken it.
        """
        self._check()


def _always_held() -> None:
    """A check that cannot fail: of no lock, or of a file's, which nobody takes from a process that lives."""


@contextlib.contextmanager
def locked(path: str, what: str, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Holds the lock file or object at `path`, and gives a function that raises if it was taken away.

    Args:
        what: is locked, for the message.
        wait: for the holder to finish, rather than refuse.

    Raises:
        RefusedError: somebody else holds it.
        ForetableError: it cannot be made.
    """
    if not storage.is_local(path):
        from beam_jobs.workspace.leases import leased

        with leased(path, what, wait) as lease:
            yield lease.check
        return
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until the end of the block
    except OSError as error:
        raise ForetableError(f"cannot write to the workspace: {path}: {error.strerror}") from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not wait:
                    raise RefusedError(
                        f"{what} is running already ({_holder(path)}); wait for it, or add --wait"
                    ) from None
                time.sleep(0.2)
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        yield _always_held


def _holder(path: str) -> str:
    try:
        holder = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        return f"process {holder['pid']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "process unknown"
