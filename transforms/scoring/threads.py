"""How a process shares its cores: several blocks at a time, each in one thread, not several threads on one block.

A block's operations are short: sharing one among threads, or handing one from thread to thread, costs more than it
brings. So a call of TensorFlow runs in its caller's thread, and as many blocks are scored at once as there
are cores, whoever asks for them.
"""

import collections
import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_THREADS_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def settle_tensorflow_threads() -> None:
    """Gives TensorFlow one thread for an operation and none to hand operations to: a call runs in its caller's thread.

    Unless it runs already, or the environment says otherwise. The environment is as before when this returns: a trainer
    that is started later has to have all cores.
    """
    if any(variable in os.environ for variable in _THREADS_VARIABLES):
        return
    import tensorflow as tf

    os.environ |= dict.fromkeys(_THREADS_VARIABLES, "1")
    try:
        tf.config.list_logical_devices()  # starts the runtime, which reads the variables once
    finally:
        for variable in _THREADS_VARIABLES:
            del os.environ[variable]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`function` of each item, in order; computes as many ahead of the one that is waited for as there are cores."""
    threads, pending = _threads(), collections.deque[concurrent.futures.Future[_Result]]()
    try:
        for item in items:
            pending.append(threads.submit(function, item))
            if len(pending) > cores():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    # One pool for the process: shards that are written at the same time share the cores, too.
    return concurrent.futures.ThreadPoolExecutor(cores(), "scoring")
