"""The SavedModel's serving signature called in a loop, and nothing else: the limit that people believe in."""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.models import load_serving
from benchmarks.work import ScoringPath, Work
from transforms.columns import graph_inputs

# Rows that wait in memory as tensors, and are gone through again and again.
READY_ROWS = 4 * 65_536


def prepare(work: Work, batch_rows: int) -> Callable[[], int]:
    """Makes the tensors of the first points, so that the loop neither enumerates nor converts anything."""
    batches = score_batches(work, batch_rows)
    next(batches)  # traced and optimized

    def run() -> int:
        work.start_clock()
        return sum(len(next(iter(predictions.values()))) for predictions in batches)

    return run


def score_batches(work: Work, batch_rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Predictions for the first batch, to warm up, and then for every batch from the first on."""
    import tensorflow as tf

    signature = load_serving(work.model.model_dir)
    ready = {
        name: tf.constant(values)
        for name, values in graph_inputs(work.points(0, min(work.rows, READY_ROWS)), work.types).items()
    }
    tensors = [
        {name: values[start : start + batch_rows] for name, values in ready.items()}
        for start in range(0, min(work.rows, READY_ROWS), batch_rows)
    ]

    def score(batch: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        return {name: values.numpy() for name, values in signature(**batch).items()}

    yield score(tensors[0])
    for index, (start, stop) in enumerate(work.ranges(batch_rows)):
        batch = tensors[index % len(tensors)]
        if stop - start < batch_rows:
            batch = {name: values[: stop - start] for name, values in batch.items()}
        yield score(batch)


PATHS = tuple(
    ScoringPath(
        name=f"bare_loop_{batch_rows}",
        settings=f"serving_default on batches of {batch_rows:,} rows that lie ready as tensors; nothing is written",
        prepare=functools.partial(prepare, batch_rows=batch_rows),
        expected_rows_per_second=expected,
    )
    for batch_rows, expected in ((64, 100_000), (4_096, 2_000_000), (65_536, 3_000_000))
)
