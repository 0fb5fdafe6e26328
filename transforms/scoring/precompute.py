"""Predictions for the whole input space, as Parquet shards."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from configs.features import ColumnType
from configs.outputs import Output
from transforms.scoring.engine import Engine, EngineFiles, load_engine
from transforms.scoring.foreign_models import ForeignCall
from transforms.scoring.shard_records import ShardRecord
from transforms.scoring.shard_writing import SHARDS_AT_ONCE, ShardWriter
from transforms.scoring.shards import Fingerprint, TableColumn, check_shard
from transforms.space.blocks import EnumerateShards, ShardRange, shard_ranges
from transforms.space.planning import Plan

_READS_AT_ONCE = 8


@dataclasses.dataclass
class PrecomputePredictions(beam.PTransform):
    """Scores every planned point and writes the shards; its elements are their records, in no promised order.

    Guarantees: the same plan and model give the same bytes, on any runner and any number of workers. A shard that is
    whole and made from the same things is kept, not written again (counter `shards_kept`). Nothing but a record leaves
    a step, so memory does not grow with the space.

    Attributes:
        plan: of the space in `axes_dir`.
        axes_dir: of `transforms.space.input_space.save_axes`.
        model_dir: a folder that every worker can read, as are `axes_dir` and `predictions_dir`.
        features: raw features, with their types.
        outputs: of the model.
        predictions_dir: folder of the shards.
        model_version: goes to each shard's metadata, as does `transform_hash`.
        foreign: how to call the model, if somebody else made it.
    """

    plan: Plan
    axes_dir: str
    model_dir: str
    features: Mapping[str, ColumnType]
    outputs: tuple[Output, ...]
    predictions_dir: str
    model_version: str
    transform_hash: str
    foreign: ForeignCall | None = None

    def __post_init__(self) -> None:
        found = [column.name for column in self.plan.columns if column.role == "output"]
        expected = [name for output in self.outputs for name in output.columns]
        if found != expected:
            raise ValueError(f"the plan's outputs are {found}, the model's {expected}")

    @property
    def fingerprint(self) -> Fingerprint:
        """What the shards are made from."""
        return Fingerprint(self.model_version, self.transform_hash, self.plan.space_hash)

    @property
    def engine_files(self) -> EngineFiles:
        """What the engine is loaded from."""
        return EngineFiles(
            axes_dir=self.axes_dir,
            column_names=tuple(column.name for column in self.plan.columns if column.role != "output"),
            exclude=self.plan.exclude,
            space_hash=self.plan.space_hash,
            model_dir=self.model_dir,
            model_version=self.model_version,
            features=tuple(self.features.items()),
            outputs=tuple(self.outputs),
            foreign=self.foreign,
        )

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[ShardRecord]:
        """Wires the transform."""
        score = _ScoreShards(self.engine_files, self.plan.columns, self.predictions_dir, self.fingerprint)
        return (
            root
            | "EnumerateShards" >> EnumerateShards(self.plan.cardinality, self.plan.shard_blocks)
            | "ScoreShards" >> beam.ParDo(score)
        )

    def holds(self, records: Sequence[ShardRecord]) -> bool:
        """Whether these are the records of all shards, and each is there as recorded, made from the same things."""
        shards = {shard.name: shard for shard in shard_ranges(self.plan.cardinality, self.plan.shard_blocks)}
        if sorted(record.name for record in records) != sorted(shards):
            return False

        def is_there(record: ShardRecord) -> bool:
            shard, columns = shards[record.name], self.plan.columns
            return check_shard(self.predictions_dir, shard, columns, lambda: record.rows, self.fingerprint) == record

        with concurrent.futures.ThreadPoolExecutor(_READS_AT_ONCE, "shards") as threads:
            return all(threads.map(is_there, records))

    def writer(self, engine: Engine) -> ShardWriter:
        """Writes the same shards in this process, with an engine of the same space and outputs."""
        return ShardWriter(engine, self.plan.columns, self.predictions_dir, self.fingerprint)


class _ScoreShards(beam.DoFn):
    """Loads the engine once per process, then scores shards, two at once: they share one pool of threads."""

    def __init__(
        self, files: EngineFiles, columns: tuple[TableColumn, ...], predictions_dir: str, fingerprint: Fingerprint
    ):
        self._files = files
        self._columns = columns
        self._predictions_dir = predictions_dir
        self._fingerprint = fingerprint
        self._shards_kept = Metrics.counter("precompute", "shards_kept")

    def setup(self) -> None:
        engine = load_engine(self._files)
        self._writer = ShardWriter(engine, self._columns, self._predictions_dir, self._fingerprint)
        self._threads = concurrent.futures.ThreadPoolExecutor(SHARDS_AT_ONCE, "shards")

    def teardown(self) -> None:
        self._threads.shutdown()

    def start_bundle(self) -> None:
        self._pending: collections.deque[concurrent.futures.Future[tuple[ShardRecord, bool]]] = collections.deque()

    def process(self, shard: ShardRange) -> Iterator[ShardRecord]:
        self._pending.append(self._threads.submit(self._keep_or_write, shard))
        if len(self._pending) == SHARDS_AT_ONCE:
            yield self._first_pending()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._pending:
            yield WindowedValue(self._first_pending(), MIN_TIMESTAMP, [GlobalWindow()])

    def _first_pending(self) -> ShardRecord:
        record, was_kept = self._pending.popleft().result()
        if was_kept:
            self._shards_kept.inc()
        return record

    def _keep_or_write(self, shard: ShardRange) -> tuple[ShardRecord, bool]:
        record = self._writer.finished(shard)
        return (record, True) if record is not None else (self._writer.write(shard), False)
