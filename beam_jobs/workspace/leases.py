"""A lock on an object store: an object that says who holds it and until when, renewed while the holder lives.

It is only ever written on the condition that nobody else wrote it since, so of two schedulers exactly one gets it, be
it free or left behind by one that died. The clocks of the machines need to agree within the lease's length.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import pathlib
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

from beam_jobs.workspace import cloud_storage
from beam_jobs.workspace.cloud_storage import ChangedError
from configs.errors import ForetableError, RefusedError

LEASE_SECONDS = 90.0
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 30.0  # with a write of the lock: well within a lease
_RENEWALS_IN_A_LEASE = 5
_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds the lock.

    Attributes:
        owner: drawn at random for each holder.
        machine: tells processes apart that have one number on two machines or in two containers.
        expires_at: until when, unless it is renewed; UTC, in ISO format.
        renewals: so far.
    """

    owner: str
    host: str
    machine: str
    pid: int
    since: str
    expires_at: str
    renewals: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} UTC"

    @property
    def is_gone(self) -> bool:
        """Whether it has not renewed its lease, or was a process of this machine and is no more."""
        if datetime.datetime.fromisoformat(self.expires_at) < _now():
            return True
        return bool(self.machine) and self.machine == _machine() and not _is_alive(self.pid)


@contextlib.contextmanager
def leased(path: str, what: str, wait: bool = False, seconds: float | None = None) -> Iterator["Lease"]:
    """Holds the lock object at `path`, and renews it in the background.

    Args:
        what: is locked, for messages.
        wait: for the holder to finish, rather than refuse.
        seconds: after which a holder that does not renew it has lost it; by default `LEASE_SECONDS`.

    Raises:
        RefusedError: somebody else holds it.
    """
    lease = Lease(path, what, LEASE_SECONDS if seconds is None else seconds)
    lease.acquire(wait)
    try:
        yield lease
    finally:
        lease.release()


class Lease:
    """Our hold on the lock object. Safe to check from several threads."""

    def __init__(self, path: str, what: str, seconds: float):
        self._path, self._what, self._seconds = path, what, seconds
        since = _now().strftime("%Y-%m-%d %H:%M:%S")
        self._self = Holder(secrets.token_hex(8), socket.gethostname(), _machine(), os.getpid(), since, "")
        self._generation = 0
        self._is_lost = False
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    def acquire(self, wait: bool) -> None:
        """Takes the lock where nobody holds it, or nobody who lives.

        Raises:
            RefusedError: somebody holds it.
        """
        while True:
            generation, holder = _read(self._path)
            if holder is None or holder.is_gone:
                with contextlib.suppress(ChangedError):  # somebody else took it just now
                    self._write(generation)
                    break
                continue
            if not wait:
                raise RefusedError(
                    f"{self._what} is running already ({holder}); wait for it, or add --wait; "
                    f"if it died, the lock ends at {holder.expires_at[11:19]} UTC"
                )
            self._stop.wait(min(POLL_SECONDS, self._seconds))
        if holder is not None:
            _LOGGER.warning("took %s over from %s, which is gone", self._path, holder)
        self._thread.start()

    def check(self) -> None:
        """Proves that we hold the lock now, and for a lease's length from now.

        Raises:
            RefusedError: somebody else has taken it, because we did not renew it in time.
        """
        with self._writing:
            self._renew()
        if self._is_lost:
            _, holder = _read(self._path)
            now = f"{holder} has it" if holder is not None else "somebody else had it meanwhile"
            raise RefusedError(f"{self._what}: this run lost its lock {self._path}: {now}; nothing more is committed")

    def release(self) -> None:
        """Gives the lock back; one that cannot be given back ends by itself."""
        self._stop.set()
        self._thread.join()
        if not self._is_lost:
            with contextlib.suppress(ForetableError):
                cloud_storage.delete([self._path], self._generation)

    def _keep_renewing(self) -> None:
        while not self._stop.wait(self._seconds / _RENEWALS_IN_A_LEASE):
            with self._writing:
                try:
                    self._renew()
                except ForetableError as error:  # there is time for further tries
                    _LOGGER.warning("cannot renew the lock: %s", error)
            if self._is_lost:
                return

    def _renew(self) -> None:
        while not self._is_lost:
            try:
                return self._write(self._generation)
            except ChangedError:
                # An earlier renewal may have arrived though its answer never came: then what is there is ours.
                generation, holder = _read(self._path)
                self._is_lost = holder is None or holder.owner != self._self.owner
                self._generation = generation

    def _write(self, replacing: int) -> None:
        expires_at = _now() + datetime.timedelta(seconds=self._seconds)
        us = dataclasses.replace(
            self._self, expires_at=expires_at.isoformat(timespec="milliseconds"), renewals=self._self.renewals + 1
        )
        content = json.dumps(dataclasses.asdict(us)).encode()
        self._generation = cloud_storage.write(self._path, content, replacing, PATIENCE_SECONDS)
        self._self = us


def _read(path: str) -> tuple[int, Holder | None]:
    """Generation of the lock object and who holds it; 0 and None where nobody does."""
    while generation := cloud_storage.generation_of(path):
        with contextlib.suppress(FileNotFoundError):  # it changed between the two calls
            return generation, _holder(cloud_storage.read(path, generation))
    return 0, None


def _holder(content: bytes) -> Holder | None:
    try:
        tree: Any = json.loads(content)
        return Holder(**tree)
    except (ValueError, TypeError):
        return None  # nobody of ours wrote it


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _machine() -> str:
    """This boot of this machine and this container's processes; nothing where the system does not tell."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
