"""Beam's RunInference three ways: the fastest on rows, the way that Beam's guide shows, and without any rows."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.parquetio import WriteToParquet, WriteToParquetBatched
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from benchmarks.models import load_serving
from benchmarks.paths.rows import RANGE_ROWS, columns_of, enumerate_rows, graph_tensors, run_on_all_cores
from benchmarks.work import ScoringPath, Work

BATCH_ROWS = 16_384


class TableHandler(ModelHandler[tuple[Any, ...], pa.Table, Any]):
    """Scores a batch of rows as columns and gives the batch back as one table.

    Beam lets a handler answer a batch with fewer elements than it has rows; an object a row would cost as much again.
    """

    def __init__(self, work: Work):
        super().__init__(min_batch_size=BATCH_ROWS, max_batch_size=BATCH_ROWS)
        self._work = work

    def load_model(self) -> Any:
        """The serving signature, called once."""
        signature = load_serving(self._work.model.model_dir)
        batch = self._work.points(0, min(BATCH_ROWS, self._work.rows))
        signature(**graph_tensors(batch.columns, self._work))
        return signature

    def run_inference(
        self, batch: Sequence[tuple[Any, ...]], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[pa.Table]:
        """One table for the batch."""
        yield score_columns(columns_of(batch, self._work), model, self._work)

    def get_num_bytes(self, batch: Sequence[tuple[Any, ...]]) -> int:
        """A constant: by default Beam pickles every batch to fill in a metric."""
        return len(batch)


class ResultHandler(TableHandler):
    """Scores a batch of rows as columns and gives a `PredictionResult` a row, as Beam's own handlers do."""

    def run_inference(
        self, batch: Sequence[tuple[Any, ...]], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        """One result for each row; its inference is a dictionary by output."""
        predictions = model(**graph_tensors(columns_of(batch, self._work), self._work))
        values = zip(*(predictions[output.name].numpy().tolist() for output in self._work.model.outputs), strict=True)
        names = [output.name for output in self._work.model.outputs]
        for row, inference in zip(batch, values, strict=True):
            yield PredictionResult(row, dict(zip(names, inference, strict=True)))


class BlockHandler(TableHandler):
    """Scores batches that came as columns already."""

    def run_inference(
        self, batch: Sequence[pa.RecordBatch], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[pa.Table]:
        """One table for each."""
        for columns in batch:
            yield score_columns(columns.columns, model, self._work)


def score_columns(columns: Sequence[pa.Array], signature: Any, work: Work) -> pa.Table:
    """The columns with their predictions."""
    predictions = signature(**graph_tensors(columns, work))
    outputs = [pa.array(predictions[output.name].numpy()) for output in work.model.outputs]
    return pa.Table.from_arrays([*columns, *outputs], schema=work.schema)


def enumerate_block(span: tuple[int, int], work: Work) -> Iterator[list[pa.RecordBatch]]:
    """Points as one batch of columns."""
    work.start_clock()
    yield [work.points(*span)]


def to_dictionary(result: PredictionResult, work: Work) -> dict[str, Any]:
    """The row with its predictions, as Beam's Parquet writer takes it."""
    return dict(zip(work.space.column_names, result.example, strict=True)) | result.inference


@dataclasses.dataclass
class WriteTables(beam.PTransform):
    """Writes tables as Parquet files, a row group each."""

    work: Work

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        prefix, schema = self.work.file("part"), self.work.schema
        return tables | WriteToParquetBatched(prefix, schema, codec="zstd", file_name_suffix=".parquet")


def _prepare(work: Work) -> Callable[[], int]:
    def define(ranges: beam.PCollection) -> beam.PCollection:
        rows = ranges | "Rows" >> beam.FlatMap(enumerate_rows, work)
        return rows | "Score" >> RunInference(TableHandler(work)) | "Write" >> WriteTables(work)

    return functools.partial(run_on_all_cores, work, define)


def _prepare_results(work: Work) -> Callable[[], int]:
    def define(ranges: beam.PCollection) -> beam.PCollection:
        return (
            ranges
            | "Rows" >> beam.FlatMap(enumerate_rows, work)
            | "Score" >> RunInference(ResultHandler(work))
            | "ToDictionary" >> beam.Map(to_dictionary, work)
            | "Write" >> WriteToParquet(work.file("part"), work.schema, codec="zstd", file_name_suffix=".parquet")
        )

    return functools.partial(run_on_all_cores, work, define)


def _prepare_blocks(work: Work) -> Callable[[], int]:
    def define(ranges: beam.PCollection) -> beam.PCollection:
        blocks = ranges | "Blocks" >> beam.FlatMap(enumerate_block, work)
        return blocks | "Score" >> RunInference(BlockHandler(work).with_no_batching()) | "Write" >> WriteTables(work)

    return functools.partial(run_on_all_cores, work, define)


PATHS = (
    ScoringPath(
        name="run_inference",
        settings=(
            f"apache_beam.ml.inference.RunInference on rows (tuples), batches of {BATCH_ROWS:,}, the best handler we"
            " know: it scores columns and answers a batch with one Arrow table; WriteToParquetBatched, zstd; a process"
            " a core"
        ),
        prepare=_prepare,
        expected_rows_per_second=200_000,
    ),
    ScoringPath(
        name="run_inference_results",
        settings=(
            "the same as Beam's guide has it: a PredictionResult a row, then a dictionary a row for WriteToParquet"
        ),
        prepare=_prepare_results,
        expected_rows_per_second=50_000,
    ),
    ScoringPath(
        name="run_inference_blocks",
        settings=(
            "the same without rows, for comparison: the elements are Arrow batches that the source already made"
            f" ({RANGE_ROWS:,} rows each, with_no_batching)"
        ),
        prepare=_prepare_blocks,
        expected_rows_per_second=500_000,
    ),
)
