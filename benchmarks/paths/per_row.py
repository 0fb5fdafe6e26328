"""One call of the model for each row, from a DoFn, as in most samples."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.parquetio import WriteToParquet

from benchmarks.models import load_serving
from benchmarks.paths.rows import enumerate_rows, run_on_all_cores
from benchmarks.work import ScoringPath, Work
from configs.features import MISSING_IN_GRAPH

_NUMPY_TYPES = {"float": np.float32, "int": np.int64, "string": object}


class PredictRow(beam.DoFn):
    """Calls the serving signature with a batch of one row."""

    def __init__(self, work: Work):
        self._work = work

    def setup(self) -> None:
        """Loads the model."""
        self._signature = load_serving(self._work.model.model_dir)

    def process(self, row: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
        """The row with its predictions."""
        import tensorflow as tf

        named = dict(zip(self._work.space.column_names, row, strict=True))
        types = self._work.types
        inputs = {
            name: np.array([MISSING_IN_GRAPH[types[name]] if value is None else value], _NUMPY_TYPES[types[name]])
            for name, value in named.items()
        }
        predictions = self._signature(**{name: tf.constant(values) for name, values in inputs.items()})
        yield named | {output.name: float(predictions[output.name].numpy()[0]) for output in self._work.model.outputs}


def _prepare(work: Work) -> Callable[[], int]:
    def define(ranges: beam.PCollection) -> beam.PCollection:
        return (
            ranges
            | "Rows" >> beam.FlatMap(enumerate_rows, work)
            | "Score" >> beam.ParDo(PredictRow(work))
            | "Write" >> WriteToParquet(work.file("part"), work.schema, codec="zstd", file_name_suffix=".parquet")
        )

    return functools.partial(run_on_all_cores, work, define)


PATHS = (
    ScoringPath(
        name="per_row",
        settings="a DoFn that calls serving_default with one row; WriteToParquet, zstd; a process a core",
        prepare=_prepare,
        expected_rows_per_second=1_000,
    ),
)
