"""This project's engine: the whole of what `precompute` runs, and the same without some of its points.

The clock starts before the pipeline is built, where the peers' starts with their first row: what the pipeline costs by
itself counts here and not there.
"""

import dataclasses
import functools
import glob
import json
import os
from collections.abc import Callable, Iterator

import apache_beam as beam

from beam_jobs.pipelines import run_pipeline
from benchmarks.work import ScoringPath, Work
from transforms.json_files import WriteJson
from transforms.scoring.engine import Engine, make_engine
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shards import Fingerprint, write_shard
from transforms.space.blocks import BLOCK_ROWS, EnumerateShards, ShardRange, block_count
from transforms.space.input_space import save_axes
from transforms.space.planning import Plan, make_plan, table_columns

SHARD_BLOCKS = 16


def _prepare(work: Work) -> Callable[[], int]:
    """`PrecomputePredictions` as the stage runs it, on a plan as the stage before makes it."""
    plan = make_plan(
        work.space,
        work.model.model_dir,
        work.model.features,
        work.model.outputs,
        shard_blocks=SHARD_BLOCKS,
        max_points=work.space.cardinality,
    )
    with open(work.file("planned"), "w", encoding="utf-8") as file:
        json.dump(plan.seconds, file)
    save_axes(work.space, work.file("axes"))

    def precompute(rows: int) -> beam.PTransform:
        return PrecomputePredictions(
            plan=_first_rows(plan, rows),
            axes_dir=work.file("axes"),
            model_dir=work.model.model_dir,
            features=work.types,
            outputs=work.model.outputs,
            predictions_dir=work.directory,
            model_version=work.model.model_version,
            transform_hash=work.model.transform_hash,
        )

    return _after_one_block(work, precompute)


def _first_rows(plan: Plan, rows: int) -> Plan:
    blocks = block_count(rows)
    shards = -(-blocks // plan.shard_blocks)
    return dataclasses.replace(plan, cardinality=rows, rows=rows, blocks=blocks, shards=shards)


@dataclasses.dataclass
class ScoreVariant(beam.PTransform):
    """`PrecomputePredictions` with an engine that has some of its points switched off.

    Attributes:
        rows: to score, from the space's first.
        factoring: of `make_engine`, as is `classes`.
    """

    work: Work
    rows: int
    factoring: bool
    classes: bool

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[ShardRecord]:
        """Wires the transform."""
        return (
            root
            | "EnumerateShards" >> EnumerateShards(self.rows, SHARD_BLOCKS)
            | "ScoreShards" >> beam.ParDo(_ScoreShards(self.work, self.factoring, self.classes))
        )


class _ScoreShards(beam.DoFn):
    def __init__(self, work: Work, factoring: bool, classes: bool):
        self._work = work
        self._factoring = factoring
        self._classes = classes

    def setup(self) -> None:
        self._engine = _load_engine(self._work, self._factoring, self._classes)

    def process(self, shard: ShardRange) -> Iterator[ShardRecord]:
        work = self._work
        columns = table_columns(work.space, work.model.features, work.model.outputs)
        fingerprint = Fingerprint(work.model.model_version, work.model.transform_hash, work.space.digest())
        blocks = self._engine.score_ranges(shard.block_ranges())
        yield write_shard(work.directory, shard, columns, blocks, fingerprint)


_ENGINES: dict[str, Engine] = {}


def _load_engine(work: Work, factoring: bool, classes: bool) -> Engine:
    """Once per process, as `transforms.scoring.engine.load_engine` does it."""
    if work.directory not in _ENGINES:
        model = work.model
        _ENGINES[work.directory] = make_engine(
            work.space, model.model_dir, work.types, model.outputs, factoring, classes
        )
    return _ENGINES[work.directory]


def _prepare_variant(work: Work, factoring: bool, classes: bool) -> Callable[[], int]:
    return _after_one_block(work, lambda rows: ScoreVariant(work, rows, factoring, classes))


def _after_one_block(work: Work, make_transform: Callable[[int], beam.PTransform]) -> Callable[[], int]:
    """Runs the transform on one block, which loads the engine, and gives the function that runs it on all rows."""

    def run(rows: int) -> int:
        records = work.file("records.json")
        run_pipeline(lambda root: root | make_transform(rows) | WriteJson(records))
        with open(records, encoding="utf-8") as file:
            return sum(record["rows"] for record in json.load(file))

    run(min(work.rows, BLOCK_ROWS))
    for shard in glob.glob(work.file("*.parquet")):
        os.remove(shard)

    def run_all() -> int:
        work.start_clock()
        return run(work.rows)

    return run_all


_SETTINGS = f"blocks of {BLOCK_ROWS:,}, {SHARD_BLOCKS} blocks a shard, zstd 1 with page checksums; one process"
PATHS = (
    ScoringPath(
        name="engine_columnar",
        settings=f"serving_default on blocks as columns, neither factoring nor classes; {_SETTINGS}",
        prepare=functools.partial(_prepare_variant, factoring=False, classes=False),
        expected_rows_per_second=1_500_000,
    ),
    ScoringPath(
        name="engine_factored",
        settings=f"axes transformed once each, no classes; {_SETTINGS}",
        prepare=functools.partial(_prepare_variant, factoring=True, classes=False),
        expected_rows_per_second=3_000_000,
    ),
    ScoringPath(
        name="engine",
        settings=f"PrecomputePredictions as the stage runs it, with everything; {_SETTINGS}",
        prepare=_prepare,
        expected_rows_per_second=3_000_000,
    ),
)
