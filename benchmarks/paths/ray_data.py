"""Ray Data: `map_batches` with an actor that holds the model, to Parquet. An optional install: `foretable[bench]`."""

import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.models import load_serving
from benchmarks.paths.rows import graph_tensors
from benchmarks.work import ScoringPath, Work

BATCH_ROWS = 65_536


class Predict:
    """Holds the model in an actor and scores batches of positions."""

    def __init__(self, work: Work):
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        self._work = work
        self._signature = load_serving(work.model.model_dir)
        self._score(np.arange(min(BATCH_ROWS, work.rows)))

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """The points at the positions, with their predictions."""
        self._work.start_clock()
        return self._score(batch["id"])

    def _score(self, positions: np.ndarray) -> pa.Table:
        points = self._work.space.columns(positions)
        predictions = self._signature(**graph_tensors(points.columns, self._work))
        outputs = [pa.array(predictions[output.name].numpy()) for output in self._work.model.outputs]
        return pa.Table.from_arrays([*points.columns, *outputs], schema=self._work.schema)


def _prepare(work: Work) -> Callable[[], int]:
    import ray

    # An actor keeps its core for as long as it lives: with one core in all, nothing would ever read or write.
    cores = max(work.processes, 2)
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run() -> int:
        dataset = ray.data.range(work.rows, override_num_blocks=max(1, -(-work.rows // (16 * BATCH_ROWS))))
        scored = dataset.map_batches(
            Predict,
            fn_constructor_args=(work,),
            batch_size=BATCH_ROWS,
            compute=ray.data.ActorPoolStrategy(size=cores - 1),
            num_cpus=1,
        )
        scored.write_parquet(work.directory, compression="zstd")
        return work.rows

    return run


PATHS = (
    ScoringPath(
        name="ray_data",
        settings=(
            f"ray.data.range, map_batches with actors on batches of {BATCH_ROWS:,}, write_parquet, zstd; an actor a"
            " core but one, which the Parquet writer gets"
        ),
        prepare=_prepare,
        expected_rows_per_second=100_000,
    ),
)
