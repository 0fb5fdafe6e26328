"""Rows as Python objects, and Beam pipelines that score them: what every row-at-a-time path shares."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_jobs.pipelines import run_pipeline
from benchmarks.work import Work
from transforms.columns import ARROW_TYPES, graph_inputs

RANGE_ROWS = 16_384


def enumerate_rows(span: tuple[int, int], work: Work) -> Iterator[tuple[Any, ...]]:
    """Points as tuples of Python values, in the order of the space's columns."""
    work.start_clock()
    yield from zip(*(column.to_pylist() for column in work.points(*span).columns), strict=True)


def columns_of(rows: Sequence[tuple[Any, ...]], work: Work) -> list[pa.Array]:
    """The rows' columns, in the order of the space's columns."""
    names = work.space.column_names
    return [
        pa.array(values, ARROW_TYPES[work.types[name]])
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    ]


def graph_tensors(columns: Sequence[pa.Array], work: Work) -> dict[str, Any]:
    """Arguments of the serving signature for these columns."""
    import tensorflow as tf

    batch = pa.RecordBatch.from_arrays(list(columns), names=list(work.space.column_names))
    return {name: tf.constant(values) for name, values in graph_inputs(batch, work.types).items()}


def run_on_all_cores(work: Work, define: Callable[[beam.PCollection], object]) -> int:
    """Runs a pipeline over the ranges of points, on as many worker processes as the work allows."""
    options = []
    if work.processes > 1:
        options = ["--direct_running_mode=multi_processing", f"--direct_num_workers={work.processes}"]

    def pipeline(root: beam.Pipeline) -> None:
        ranges = root | "Ranges" >> beam.Create(list(work.ranges(RANGE_ROWS)), reshuffle=False)
        define(ranges | "Spread" >> beam.Reshuffle())

    run_pipeline(pipeline, options)
    return work.rows
