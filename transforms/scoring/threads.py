"""How a process shares its cores: several blocks at a time, each in one thread, not several threads on one block.

A block's operations are short: sharing one among threads costs more than it brings. So each operation has one thread,
and one block more is scored at once than there are cores, whoever asks for them: a block is now in Python, now in
TensorFlow.
"""

import collections
import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_INTRAOP, _INTEROP = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def settle_tensorflow_threads() -> None:
    """Gives TensorFlow one thread for an operation, and a thread a core for operations.

    A call's operations run in TensorFlow's threads, not in the caller's: with one such thread, calls would wait for
    each other. Nothing is settled where TensorFlow runs already, or the environment says otherwise. The environment is
    as before when this returns: a trainer that is started later has to have all cores.
    """
    if _INTRAOP in os.environ or _INTEROP in os.environ:
        return
    import tensorflow as tf

    os.environ |= {_INTRAOP: "1", _INTEROP: str(cores())}
    try:
        tf.config.list_logical_devices()  # starts the runtime, which reads the variables once
    finally:
        del os.environ[_INTRAOP], os.environ[_INTEROP]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`function` of each item, in order; computes as many ahead of the one that is waited for as are scored at once."""
    threads, pending = _threads(), collections.deque[concurrent.futures.Future[_Result]]()
    try:
        for item in items:
            pending.append(threads.submit(function, item))
            if len(pending) > _at_once():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    # One pool for the process: shards that are written at the same time share the cores, too.
    return concurrent.futures.ThreadPoolExecutor(_at_once(), "scoring")


def _at_once() -> int:
    return cores() + 1
