"""Where a block's processor time goes, and the floor under it: `python -m benchmarks.block_profile MODEL_FOLDER`.

Each part of what `precompute` does to a block runs alone in this thread, on the same blocks, and its processor seconds
are divided by their number. The network's share is the floor: everything else could be free, and it would still be
there. The model folder, such as `small`, is one of a workspace that `python -m benchmarks.scoring --workspace FOLDER`
kept.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.models import load_built_model
from benchmarks.report import short
from benchmarks.spaces import make_space
from configs.features import ColumnType
from transforms.scoring.engine import make_engine, prediction_arrays
from transforms.scoring.factoring import gather
from transforms.scoring.scorer_choice import choose_scorer
from transforms.scoring.serving import PREDICT_TRANSFORMED, SERVING, check_predictions, load_model, raw_columns
from transforms.scoring.shards import Fingerprint, write_shard
from transforms.scoring.threads import cores
from transforms.space.blocks import BLOCK_ROWS, shard_ranges
from transforms.space.input_space import InputSpace, Points
from transforms.space.planning import table_columns

POINTS = 10_000_000
BLOCKS = 32
ROUNDS = 5


def main(folder: str) -> None:
    """Prints milliseconds of processor time a block, and the rows a second that each part alone would allow."""
    import tensorflow as tf

    name = os.path.basename(os.path.normpath(folder))
    model, space = load_built_model(name, folder), make_space(name, POINTS)
    types = {feature: declared.type for feature, declared in model.features.items()}
    engine = make_engine(space, model.model_dir, types, model.outputs, classes=False)
    scorer: Any = choose_scorer(space, model.model_dir, types, model.outputs, True, False).scorer
    loaded = load_model(model.model_dir)
    ranges = [(start, start + BLOCK_ROWS) for start in range(0, BLOCKS * BLOCK_ROWS, BLOCK_ROWS)]
    points = [engine.exclusion.included(*bounds) for bounds in ranges]
    predictions = [scorer.score(block) for block in points]
    batches = [engine.score_range(*bounds) for bounds in ranges]
    features = [{n: tf.constant(gather(t, block)) for n, t in scorer.tables.items()} for block in points]
    columns = table_columns(space, model.features, model.outputs)
    shard = shard_ranges(POINTS, BLOCKS)[0]

    def write() -> None:
        with tempfile.TemporaryDirectory(prefix="foretable-benchmarks-") as directory:
            write_shard(directory, shard, columns, batches, Fingerprint("model", "transform", "space"))

    def finish(found: tuple[Points, dict[str, np.ndarray]]) -> None:
        check_predictions(found[1], model.outputs, space, found[0].positions)
        prediction_arrays(found[1], model.outputs)

    predict = loaded.signatures[PREDICT_TRANSFORMED]
    parts: dict[str, Callable[[], object]] = {
        "positions of the points": _each(lambda bounds: engine.exclusion.included(*bounds), ranges),
        "key columns": _each(lambda block: space.columns_of(block, dictionary=True), points),
        "gather the axes' tables": _each(lambda block: [gather(t, block) for t in scorer.tables.values()], points),
        "network": _each(lambda batch: {n: v.numpy() for n, v in predict(**batch).items()}, features),
        "check, and make columns": _each(finish, list(zip(points, predictions, strict=True))),
        "Parquet, zstd, SHA-256": write,
    }
    print(f"{name}: processor time of a block of {BLOCK_ROWS:,} rows, over {BLOCKS} blocks; {cores()} cores")
    measured = {part: _cpu_milliseconds(work) for part, work in parts.items()}
    total = sum(measured.values())
    for part, milliseconds in measured.items():
        print(f"  {part:24} {milliseconds:7.3f} ms {milliseconds / total:6.1%}")
    print(f"  {'all of them':24} {total:7.3f} ms        {_rate(total)}")
    print(f"the network alone: {_rate(measured['network'])}, the floor of anything that calls it")
    serving = _cpu_milliseconds(_each(_serve(loaded, space, types), points))
    print(f"serving_default on ready columns, nothing written: {serving:.3f} ms, {_rate(serving)}")


def _serve(loaded: Any, space: InputSpace, types: Mapping[str, ColumnType]) -> Callable[[Points], object]:
    import tensorflow as tf

    values, ready = raw_columns(space, types), {}

    def serve(points: Points) -> object:
        key = int(points.positions[0])
        if key not in ready:  # the first round only, which is not measured
            ready[key] = {name: tf.gather(column, points.indices[axis]) for name, (axis, column) in values.items()}
        return {name: value.numpy() for name, value in loaded.signatures[SERVING](**ready[key]).items()}

    return serve


def _each(work: Callable[[Any], object], items: Sequence[Any]) -> Callable[[], object]:
    def run() -> None:
        for item in items:
            work(item)

    return run


def _cpu_milliseconds(work: Callable[[], object]) -> float:
    """Processor milliseconds a block, all threads: the least of a few rounds after one that is not counted."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        rounds.append((time.process_time() - started) / BLOCKS * 1000)
    return min(rounds)


def _rate(milliseconds: float) -> str:
    return f"{short(cores() * BLOCK_ROWS / milliseconds * 1000)} rows/s on all cores"


if __name__ == "__main__":
    main(sys.argv[1])
