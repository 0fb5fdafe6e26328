"""Describes the rows that the model is asked about, as the examples are described that it learns from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import apache_beam as beam

from configs.features import ColumnType
from transforms.examples.readers.rows import Expected
from transforms.examples.reading import BAD_ROWS, EXAMPLES, ReadExamples, SourceReader
from transforms.examples.statistics import GenerateStatistics, write_statistics

TRAFFIC = "traffic"
"""Name of the dataset in the statistics."""


@dataclasses.dataclass
class DescribeTraffic(beam.PTransform):
    """Writes the statistics of a source, which has no label; gives one mapping, with the number of its bad rows.

    Attributes:
        columns: to read, with their types; any value may be missing.
        statistics_path: of the text file, whose one dataset is `TRAFFIC`.
    """

    reader: SourceReader
    columns: Mapping[str, ColumnType]
    statistics_path: str

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[dict[str, Any]]:
        """Reads, describes, and writes."""
        read = root | "ReadTraffic" >> ReadExamples(self.reader, Expected(self.columns))
        written = (
            read[EXAMPLES]
            | "SelectBatches" >> beam.Map(lambda examples: (TRAFFIC, examples.batch))
            | "GenerateStatistics" >> GenerateStatistics((TRAFFIC,))
            | "WriteStatistics" >> beam.Map(write_statistics, self.statistics_path)
        )
        bad_rows = read[BAD_ROWS] | "CountBadRows" >> beam.combiners.Count.Globally()
        return written | "Summarize" >> beam.Map(
            lambda path, count: {"bad_rows": count}, beam.pvalue.AsSingleton(bad_rows)
        )
