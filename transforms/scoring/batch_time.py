"""How long a call of a model takes on this machine, for a batch whose size somebody else decides."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

_WARM_UP_CALLS, _MOST_CALLS, _SECONDS = 2, 20, 1.0


def median_seconds(call: Callable[[], object]) -> float:
    """Median of about a second of calls, after a few that are not counted: a graph's first calls compile it."""
    for _ in range(_WARM_UP_CALLS):
        call()
    taken: list[float] = []
    while len(taken) < _MOST_CALLS and sum(taken) < _SECONDS:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def text_call(signature: Any, name: str, texts: pa.Array) -> Callable[[], object]:
    """A call of a signature with one input of text.

    Args:
        signature: of a loaded model.
        name: of its input.
        texts: `[num_rows]`.
    """
    import tensorflow as tf

    batch = tf.constant(texts.to_pylist())
    return lambda: {output: values.numpy() for output, values in signature(**{name: batch}).items()}
