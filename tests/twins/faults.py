"""Faults before a twin: connections that are reset, servers that refuse, replies that are lost, silence, and kills.

A `Faults` counts the calls to every server it stands before, and lets one happen at those that its schedule names.
"""

import collections
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from twins.proxy import Answer, Forward, LostReplyError, Reply, Request, proxy, reset

LATE_SECONDS = 1.0
_FOR_EVER_SECONDS = 3600.0
REASONS = {401: "authError", 403: "accessDenied", 429: "rateLimitExceeded", 500: "internalError", 503: "backendError"}


def connection_reset(request: Request, forward: Forward) -> Reply:
    """The connection breaks before the server hears of the call."""
    raise LostReplyError


def lost_reply(request: Request, forward: Forward) -> Reply:
    """The server acts, and its reply is lost."""
    forward(request)
    raise LostReplyError


def refusal(status: int, message: str = "a fault of the tests") -> Answer:
    """The server answers with an error and has not acted."""

    def answer(request: Request, forward: Forward) -> Reply:
        body = {"code": status, "message": message, "errors": [{"reason": REASONS[status], "message": message}]}
        return Reply(status, (("Content-Type", "application/json"),), json.dumps({"error": body}).encode())

    answer.__name__ = f"answer_{status}"
    return answer


def late_reset(seconds: float = LATE_SECONDS, acts: bool = False) -> Answer:
    """The connection breaks while a client still waits; `acts`: though the server has acted."""

    def answer(request: Request, forward: Forward) -> Reply:
        if acts:
            forward(request)
        time.sleep(seconds)
        raise LostReplyError

    answer.__name__ = f"late_reset{'_after_acting' if acts else ''}"
    return answer


def silence(acts: bool = False) -> Answer:
    """Nothing ever comes, so that a client has to give up by itself; `acts`: though the server has acted."""
    answer = late_reset(_FOR_EVER_SECONDS, acts)
    answer.__name__ = f"silence{'_after_acting' if acts else ''}"
    return answer


PASSING: Sequence[Answer] = (
    connection_reset,
    refusal(429),
    refusal(500),
    refusal(503),
    lost_reply,
    late_reset(),
    late_reset(acts=True),
)
"""Faults that a single retry outlives."""

Schedule = Callable[[int, str], Answer | None]
"""The fault of the n-th call, counted from 0, which is `METHOD /path`; or None."""


def fair(call: int, what: str) -> None:
    """No call has a fault."""


def once(call: int, fault: Answer) -> Schedule:
    """The fault happens to one call."""
    return lambda n, what: fault if n == call else None


def from_call(call: int, fault: Answer) -> Schedule:
    """The fault happens to a call and to every later one."""
    return lambda n, what: fault if n >= call else None


def every(period: int, faults: Sequence[Answer]) -> Schedule:
    """Each `period`-th call has a fault, of each kind in turn."""
    return lambda n, what: faults[n // period % len(faults)] if n % period == period - 1 else None


def first_tries(fault: Answer) -> Schedule:
    """The fault happens to every call at its first try: to the first, third, fifth of those with one path."""
    tried: collections.Counter[str] = collections.Counter()

    def schedule(call: int, what: str) -> Answer | None:
        tried[what] += 1
        return fault if tried[what] % 2 else None

    return schedule


class Faults:
    """What happens to calls.

    Attributes:
        calls: since the last `start`, as `METHOD /path`.
        happened: how many faults those calls had.
        victim: number of the process that a kill kills; to be set after `start`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.start(fair)

    def start(self, schedule: Schedule) -> None:
        """Counts calls from 0 again, under another schedule."""
        with self._lock:
            self.schedule, self.calls, self.happened, self.victim = schedule, [], 0, None

    def stop(self) -> None:
        """Calls have no faults any more, and their count goes on."""
        with self._lock:
            self.schedule = fair

    def __call__(self, request: Request, forward: Forward) -> Reply:
        """Answers a call as the schedule says."""
        with self._lock:
            fault = self.schedule(len(self.calls), str(request))
            self.calls.append(str(request))
            self.happened += fault is not None
        return forward(request) if fault is None else fault(request, forward)

    def kill(self, acts: bool) -> Answer:
        """The caller is killed: before the server hears of the call, or when it has acted and not yet replied."""

        def answer(request: Request, forward: Forward) -> Reply:
            if acts:
                forward(request)
            while self.victim is None:  # its first call may come before the tests know its number
                time.sleep(0.001)
            os.kill(self.victim, signal.SIGKILL)
            raise LostReplyError

        answer.__name__ = "kill_after_acting" if acts else "kill"
        return answer

    @contextlib.contextmanager
    def before(self, *origins: str) -> Iterator[list[str]]:
        """Stands before servers, `http://host:port` each, until the block ends; yields the addresses to use instead."""
        with contextlib.ExitStack() as proxies:
            yield [proxies.enter_context(proxy(origin, self)) for origin in origins]


@contextlib.contextmanager
def breaking_connections(origin: str, bytes_until_reset: Sequence[int]) -> Iterator[str]:
    """Forwards TCP connections to `host:port`, for what speaks no HTTP/1; yields the address to use instead.

    Args:
        bytes_until_reset: of the server's answer, for the first connection, the second, and so on; later ones hold.
    """
    host, _, port = origin.rpartition(":")
    budgets = itertools.chain(bytes_until_reset, itertools.repeat(None))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return  # closed: the block has ended
            threading.Thread(target=carry, args=(caller, next(budgets)), daemon=True).start()

    def carry(caller: socket.socket, budget: int | None) -> None:
        with caller, socket.create_connection((host, int(port))) as server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([caller, server], [], [])
                for source in ready:
                    content = source.recv(65536)
                    if not content:
                        return
                    if source is server and budget is not None:
                        budget -= len(content)
                        if budget < 0:
                            reset(caller)
                            return
                    (server if source is caller else caller).sendall(content)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
