"""Where rows come from, and how examples are split.

Paths and globs go to Beam's FileSystems; relative ones start where the command runs.
"""

from typing import Annotated, Any, Literal, Self

import pydantic

from configs.base import Node, one_or_many

Files = Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)]


class SampleSource(Node):
    """Synthetic rows from a built-in seeded generator: for trials and the demo, without any data at hand."""

    kind: Literal["sample"]
    name: Literal["natality"] = "natality"
    rows: int = pydantic.Field(default=100_000, ge=1)
    seed: int = 0


class CsvSource(Node):
    """Delimited text with a header line; gzip by file name."""

    kind: Literal["csv"]
    files: Files
    delimiter: str = pydantic.Field(default=",", min_length=1, max_length=1)
    quote: str = pydantic.Field(default='"', min_length=1, max_length=1)
    null_values: tuple[str, ...] = ("",)


class ParquetSource(Node):
    """Parquet files."""

    kind: Literal["parquet"]
    files: Files


class TFRecordSource(Node):
    """TFRecord files of serialized tf.Example; gzip by file name."""

    kind: Literal["tfrecord"]
    files: Files


class BigQuerySource(Node):
    """Rows of a BigQuery table or query, as of one moment.

    Attributes:
        table: `project.dataset.table`; or else `query`.
        query: GoogleSQL; runs once a night into a temporary table.
        row_restriction: SQL condition over a `table`, answered while it is read.
        project: pays for the reading; by default the table's, or else that of the credentials.
        location: where a query runs; by default BigQuery finds it.
        maximum_bytes_billed: of the query; BigQuery refuses a larger one.
    """

    kind: Literal["bigquery"]
    table: str | None = pydantic.Field(default=None, pattern=r"^[^.`\s]+\.[^.`\s]+\.[^.`\s]+$")
    query: str | None = None
    row_restriction: str | None = None
    project: str | None = None
    location: str | None = None
    maximum_bytes_billed: int | None = pydantic.Field(default=None, ge=1)

    @pydantic.model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("expected table or query, and not both")
        if self.query is not None and self.row_restriction is not None:
            raise ValueError("expected row_restriction beside table only; a query has its WHERE")
        return self


Source = Annotated[
    SampleSource | CsvSource | ParquetSource | TFRecordSource | BigQuerySource, pydantic.Field(discriminator="kind")
]


class HashSplit(Node):
    """Splits by a deterministic hash of chosen columns: rows that agree on them always fall on the same side.

    Attributes:
        by: columns whose values are hashed, by their text.
        eval: fraction of the hash space that goes to the eval split.
    """

    by: Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)]
    eval: float = pydantic.Field(default=0.2, gt=0, lt=1)


class SourceSplit(Node):
    """Splits by given files: `source` is the train split and this one the eval split."""

    eval: Source


def _split_tag(value: Any) -> str:
    has_by = "by" in value if isinstance(value, dict) else isinstance(value, HashSplit)
    return "hash split" if has_by else "source split"


Split = Annotated[
    Annotated[HashSplit, pydantic.Tag("hash split")] | Annotated[SourceSplit, pydantic.Tag("source split")],
    pydantic.Discriminator(_split_tag),
]
