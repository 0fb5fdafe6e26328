"""Servers in processes of their own: on free ports, awaited, logged, and gone when the tests are, however they end."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
LONGEST_START_SECONDS = 90
STARTS = 3  # another process may take a port between our choice of it and the server's start

# Asks the kernel for the server's death when this process dies, then becomes the server. A thread's death counts as
# its process's there, so servers are started by the main thread, as pytest's fixtures are.
ATTACH = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which an exec keeps
except AttributeError:
    pass  # not Linux
if os.getppid() != int(sys.argv[1]):
    sys.exit("the tests are gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def twin_environment() -> pathlib.Path:
    """Folder of the servers' environment; else skips the test, or fails it where `REQUIRE_TWINS=1`."""
    folder = pathlib.Path(os.environ.get("FORETABLE_TWINS") or ROOT / ".venv-twins")
    missing = [
        name for name in ("bin/local-bigquery", "bin/gcp-storage-emulator", "home") if not (folder / name).exists()
    ]
    if missing:
        reason = f"no {folder / missing[0]}: `make twins` makes it, which needs Python 3.13"
        pytest.fail(reason) if os.environ.get("REQUIRE_TWINS") == "1" else pytest.skip(reason)
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as sockets:
        listening = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in listening:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in listening]


def answers_http(url: str) -> bool:
    """Whether a server answers at `url`, whatever it says."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def accepts_tcp(port: int) -> bool:
    """Whether something listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(
    command: Callable[[list[int]], Sequence[str]],
    ports: int,
    is_ready: Callable[[list[int]], bool],
    log: pathlib.Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[int]]:
    """Runs a server until the block ends; yields its ports.

    Args:
        command: that starts it on the given ports.
        ports: how many it needs.
        is_ready: whether the server on these ports answers.
        log: file of its output, which a failure to start shows.
    """
    for _ in range(STARTS):
        chosen = free_ports(ports)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", ATTACH, str(os.getpid()), *command(chosen)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
            )
        try:
            deadline = time.monotonic() + LONGEST_START_SECONDS
            while process.poll() is None and not is_ready(chosen) and time.monotonic() < deadline:
                time.sleep(0.05)
            if process.poll() is None and is_ready(chosen):
                yield chosen
                return
        finally:
            process.kill()
            process.wait()
    pytest.fail(f"{command(chosen)[0]} did not start; {log} ends with\n{log.read_text(errors='replace')[-3000:]}")
