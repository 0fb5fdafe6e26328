"""One run of a job and date at a time, by a lock that the operating system drops when its holder dies."""

import contextlib
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Iterator

from configs.errors import ForetableError, RefusedError


@contextlib.contextmanager
def locked(path: str, what: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock file at `path`.

    Args:
        what: is locked, for the message.
        wait: for the holder to finish, rather than refuse.

    Raises:
        RefusedError: somebody else holds it.
        ForetableError: the lock file cannot be made.
    """
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
        yield


def _holder(path: str) -> str:
    try:
        holder = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        return f"process {holder['pid']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "process unknown"
