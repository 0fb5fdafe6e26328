"""Reads a job's examples once, checks, labels and splits them, and freezes them as Parquet shards.

Everything later in the night reads these shards and never the source, which may change meanwhile.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from configs.features import ColumnType, Feature, Label
from configs.sources import HashSplit
from transforms.examples.column_summaries import EXACT_VALUES
from transforms.examples.readers.rows import BadRow, DerivedLabel, Expected
from transforms.examples.reading import BAD_ROWS, EXAMPLES, ExampleBatch, ReadExamples, SourceReader
from transforms.examples.splitting import eval_mask
from transforms.examples.statistics import GenerateStatistics, write_statistics
from transforms.files import create_atomically

MIN_KEPT_BAD_ROWS = 1000

LabelValue = str | int | float


@dataclasses.dataclass(frozen=True)
class ShardSummary:
    """One file of examples.

    Attributes:
        name: of the file in `examples/`.
        label_values: distinct labels, sorted; None if there are more than `EXACT_VALUES`.
    """

    name: str
    split: str
    rows: int
    label_values: tuple[LabelValue, ...] | None


@dataclasses.dataclass(frozen=True)
class IngestionSummary:
    """What became of the source's rows.

    Attributes:
        shards: sorted by name.
        bad_rows_count: rows set aside.
        bad_rows: the first of them by file and line, as they are in `bad_rows.jsonl`.
    """

    shards: tuple[ShardSummary, ...]
    bad_rows_count: int
    bad_rows: tuple[BadRow, ...]

    def rows(self, split: str) -> int:
        """Number of rows in a split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)

    def label_values(self, split: str) -> tuple[LabelValue, ...] | None:
        """Distinct labels of a split, sorted; None if there are more than `EXACT_VALUES`."""
        parts = [shard.label_values for shard in self.shards if shard.split == split]
        return _few(value for part in parts for value in part or ()) if None not in parts else None

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "IngestionSummary":
        """Reads what `dataclasses.asdict` gave, after a trip through JSON."""
        shards = (
            {**shard, "label_values": None if (values := shard["label_values"]) is None else tuple(values)}
            for shard in tree["shards"]
        )
        return cls(
            shards=tuple(ShardSummary(**shard) for shard in shards),
            bad_rows_count=tree["bad_rows_count"],
            bad_rows=tuple(BadRow(**row) for row in tree["bad_rows"]),
        )


@dataclasses.dataclass
class IngestExamples(beam.PTransform):
    """Turns a source into frozen examples; gives one `IngestionSummary`.

    Writes `examples/{train,eval}-SSSSS-BBBBB.parquet` (each whole or not at all, in the source's order, the same bytes
    for the same source), `statistics.pbtxt`, and `bad_rows.jsonl` with the rows set aside, sorted by file and line.

    Attributes:
        reader: of the source.
        split: by hash, or the reader of the eval split's own source.
        columns: to read, with their types.
        features: of the columns; one that declares no `missing:` value sets rows without it aside.
        example_label: a column, or made by its expression; it comes last then, and rows without it are set aside. (A
            Beam transform's `label` is its own name.)
        output_dir: the run directory.
        max_bad_rows: bad rows that the job tolerates. All are counted, and the first ones kept in `bad_rows.jsonl`:
            this many, or `MIN_KEPT_BAD_ROWS` if that is more.
        bounds: least and greatest expected number by column; the statistics count what is beyond.
    """

    reader: SourceReader
    split: HashSplit | SourceReader
    columns: Mapping[str, ColumnType]
    features: Mapping[str, Feature]
    example_label: Label
    output_dir: str
    max_bad_rows: int = 0
    bounds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[IngestionSummary]:
        """Reads, splits, and writes."""
        expected = expected_rows(self.columns, self.features, self.example_label)
        parts, bad_rows = self._read(root, expected)
        shards = parts | "WriteShards" >> beam.Map(write_shard, self.example_label.name, self.output_dir)
        _ = (
            parts
            | "SelectBatches" >> beam.Map(lambda part: (part.split, part.batch))
            | "GenerateStatistics" >> GenerateStatistics(label_name=self.example_label.name, bounds=self.bounds)
            | "WriteStatistics" >> beam.Map(write_statistics, FileSystems.join(self.output_dir, "statistics.pbtxt"))
        )
        kept = max(self.max_bad_rows, MIN_KEPT_BAD_ROWS)
        first_bad_rows = bad_rows | "FirstBadRows" >> beam.combiners.Top.Smallest(kept)
        _ = first_bad_rows | "WriteBadRows" >> beam.Map(_write_bad_rows, self.output_dir)
        return (
            root
            | "Once" >> beam.Create([None])
            | "Summarize"
            >> beam.Map(
                _summarize,
                beam.pvalue.AsList(shards),
                beam.pvalue.AsSingleton(bad_rows | "CountBadRows" >> beam.combiners.Count.Globally()),
                beam.pvalue.AsSingleton(first_bad_rows),
            )
        )

    def _read(self, root: beam.pvalue.PBegin, expected: Expected) -> tuple[beam.PCollection, beam.PCollection]:
        if isinstance(self.split, HashSplit):
            read = root | "ReadExamples" >> ReadExamples(self.reader, expected)
            return read[EXAMPLES] | "SplitBatches" >> beam.FlatMap(split_batch, self.split), read[BAD_ROWS]
        train = root | "ReadTrain" >> ReadExamples(self.reader, expected)
        evaluation = root | "ReadEval" >> ReadExamples(self.split, expected)
        parts = (
            train[EXAMPLES] | "TrainParts" >> beam.Map(lambda batch: SplitBatch("train", batch.stem, batch.batch)),
            evaluation[EXAMPLES] | "EvalParts" >> beam.Map(lambda batch: SplitBatch("eval", batch.stem, batch.batch)),
        )
        bad_rows = (train[BAD_ROWS], evaluation[BAD_ROWS])
        return parts | "FlattenParts" >> beam.Flatten(), bad_rows | "FlattenBadRows" >> beam.Flatten()


@dataclasses.dataclass(frozen=True)
class SplitBatch:
    """Rows of one part of the source that fall into one split."""

    split: str
    stem: str
    batch: pa.RecordBatch


def expected_rows(columns: Mapping[str, ColumnType], features: Mapping[str, Feature], label: Label) -> Expected:
    """What the job expects of each row."""
    required = {
        name: "missing, and the feature declares no missing: value"
        for name, feature in features.items()
        if not feature.may_be_missing
    }
    if label.expression is None:
        return Expected(columns, required | {label.name: "the label is missing"})
    return Expected(columns, required, DerivedLabel(label.name, label.type, label.expression))


def split_batch(examples: ExampleBatch, split: HashSplit) -> Iterator[SplitBatch]:
    """Splits a batch by hash; a split that gets none of its rows is left out."""
    is_eval = eval_mask(examples.batch, split.by, split.eval)
    for name, mask in (("train", pc.invert(is_eval)), ("eval", is_eval)):
        rows = examples.batch.filter(mask)
        if rows.num_rows:
            yield SplitBatch(name, examples.stem, rows)


def write_shard(part: SplitBatch, label: str, output_dir: str) -> ShardSummary:
    """Writes rows as one Parquet file of `examples/`, atomically."""
    name = f"{part.split}-{part.stem}.parquet"
    with create_atomically(FileSystems.join(output_dir, "examples", name)) as file:
        pq.write_table(pa.Table.from_batches([part.batch]), file, compression="zstd")
    values = _few(pc.unique(part.batch.column(label)).to_pylist())
    return ShardSummary(name, part.split, part.batch.num_rows, values)


def _few(values: Any) -> tuple[LabelValue, ...] | None:
    distinct = set(values)
    return tuple(sorted(distinct)) if len(distinct) <= EXACT_VALUES else None


def _write_bad_rows(bad_rows: list[BadRow], output_dir: str) -> None:
    with create_atomically(FileSystems.join(output_dir, "bad_rows.jsonl")) as file:
        for bad_row in bad_rows:
            file.write(json.dumps(dataclasses.asdict(bad_row), ensure_ascii=False).encode() + b"\n")


def _summarize(_: None, shards: list[ShardSummary], bad_rows_count: int, bad_rows: list[BadRow]) -> IngestionSummary:
    return IngestionSummary(tuple(sorted(shards, key=lambda shard: shard.name)), bad_rows_count, tuple(bad_rows))
