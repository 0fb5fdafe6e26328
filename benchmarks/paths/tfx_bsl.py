"""tfx-bsl's RunInference on serialized tf.Examples: what TFX's BulkInferrer runs."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from benchmarks.paths.rows import columns_of, run_on_all_cores
from benchmarks.paths.run_inference import WriteTables
from benchmarks.work import ScoringPath, Work
from transforms.columns import adapter_batch

BATCH_ROWS = 4_096


def enumerate_examples(span: tuple[int, int], work: Work) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    """Points as tuples of Python values, each with its serialized tf.Example, by tfx-bsl's own encoder."""
    from tfx_bsl.coders.example_coder import RecordBatchToExamples

    work.start_clock()
    points = work.points(*span)
    rows = zip(*(column.to_pylist() for column in points.columns), strict=True)
    yield from zip(rows, RecordBatchToExamples(adapter_batch(points, work.types)), strict=True)


def to_table(batch: Sequence[tuple[tuple[Any, ...], Any]], work: Work) -> pa.Table:
    """The rows with the predictions that their PredictionLogs hold."""
    columns = columns_of([row for row, _ in batch], work)
    for output in work.model.outputs:
        values = [log.predict_log.response.outputs[output.name].float_val[0] for _, log in batch]
        columns.append(pa.array(values, pa.float32()))
    return pa.Table.from_arrays(columns, schema=work.schema)


def _prepare(work: Work) -> Callable[[], int]:
    from tfx_bsl.public.beam import RunInference
    from tfx_bsl.public.proto import model_spec_pb2

    spec = model_spec_pb2.InferenceSpecType()
    spec.saved_model_spec.model_path = work.model.model_dir
    spec.saved_model_spec.signature_name.append("serving_examples")
    spec.batch_parameters.min_batch_size = BATCH_ROWS
    spec.batch_parameters.max_batch_size = BATCH_ROWS

    def define(ranges: beam.PCollection) -> beam.PCollection:
        return (
            ranges
            | "Examples" >> beam.FlatMap(enumerate_examples, work).with_output_types(tuple[tuple[Any, ...], bytes])
            | "Score" >> RunInference(spec)
            | "Batch" >> beam.BatchElements(BATCH_ROWS, BATCH_ROWS)
            | "ToTable" >> beam.Map(to_table, work)
            | "Write" >> WriteTables(work)
        )

    return functools.partial(run_on_all_cores, work, define)


PATHS = (
    ScoringPath(
        name="tfx_bsl",
        settings=(
            f"tfx_bsl.public.beam.RunInference on tf.Examples of tfx-bsl's encoder, batches of {BATCH_ROWS:,},"
            " signature serving_examples; PredictionLogs gathered to tables for WriteToParquetBatched, zstd;"
            " a process a core"
        ),
        prepare=_prepare,
        expected_rows_per_second=10_000,
    ),
)
