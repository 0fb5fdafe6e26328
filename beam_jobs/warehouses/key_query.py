"""The SQL that an analyst starts from: the predictions of some keys, whatever kinds of axes the table has."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from beam_jobs.published_axes import PublishedAxis
from beam_jobs.warehouses.base import NightRecord, Value
from beam_jobs.warehouses.dialects import BigQueryDialect, Dialect
from configs.space import interval_columns


class DuckDBKeys:
    """How a query of keys is written for DuckDB.

    Attributes:
        about_keys: comments inside the statement, so that the whole of it can be handed to `foretable query`, which
            takes -- for an option.
        join: of the keys to the predictions.
    """

    sql: Dialect = Dialect()
    types: Mapping[str, str] = {"string": "VARCHAR", "float": "DOUBLE", "int": "BIGINT"}
    float32 = "FLOAT"
    join = "LEFT JOIN"
    about_keys = """\
  -- The keys to look up, one SELECT each and UNION ALL between them; NULL is the missing value.
  -- The prediction of a key that is not in the table is NULL."""
    about_floats = "  -- As FLOAT, a number is what the model sees, and falls in the model's interval."

    def view(self, job: str) -> str:
        """The job's predictions."""
        return self.sql.quote(f"{job}_predictions")

    def as_float32(self, number: str) -> str:
        """The number as the model sees it."""
        return number


class BigQueryKeys(DuckDBKeys):
    """How a query of keys is written for BigQuery, which has no FLOAT32 and no left join without an equality.

    Attributes:
        dataset: `project.dataset`.
    """

    sql = BigQueryDialect()
    types: Mapping[str, str] = {"string": "STRING", "float": "FLOAT64", "int": "INT64"}
    float32 = "FLOAT64"
    join = "JOIN"
    about_keys = """\
  -- The keys to look up, one SELECT each and UNION ALL between them; NULL is the missing value.
  -- A key that is not in the table has no row."""
    about_floats = "  -- In an interval's conditions, a number is rounded to FLOAT32, as the model sees it."

    def __init__(self, dataset: str):
        self.dataset = dataset

    def view(self, job: str) -> str:
        """The job's predictions."""
        return self.sql.quote(f"{self.dataset}.{job}_predictions")

    def as_float32(self, number: str) -> str:
        """The number rounded to 24 bits: what a large multiple takes away from it and gives back (Veltkamp, 1968)."""
        return f"({number} * {_SPLITTER} - ({number} * {_SPLITTER} - {number}))"


_SPLITTER = 2**29 + 1  # 53 bits of a FLOAT64 less the 24 of a FLOAT32
_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
DUCKDB_KEYS = DuckDBKeys()


def key_query(
    record: NightRecord, axes: Sequence[PublishedAxis], row: Mapping[str, Value], keys: DuckDBKeys = DUCKDB_KEYS
) -> str:
    """A query of `<job>_predictions` for a key.

    Args:
        axes: of the record.
        row: of the table, whose key is the example.
        keys: the warehouse's way to write it.
    """
    columns = {column.name: column for column in record.columns}
    examples, conditions = [], []
    has_float_intervals = False
    for axis in axes:
        if axis.intervals_of is not None:
            low = columns[interval_columns(axis.intervals_of)[0]]
            has_float_intervals |= low.type == "float"
            example = _inside(row, axis.intervals_of)
            sql_type = keys.float32 if low.type == "float" else keys.types[low.type]
            examples.append(_example(axis.intervals_of, example, sql_type, keys.sql))
            conditions += _in_interval(axis, keys, is_float=low.type == "float")
        else:
            for name in axis.asked:
                column = columns[name]
                examples.append(_example(name, row[name], keys.types[column.type], keys.sql))
                asked, known = (f"{table}.{keys.sql.quote(name)}" for table in "kp")
                is_null_safe = axis.table[name].null_count > 0
                conditions.append(
                    keys.sql.same_key(known, asked, column.type) if is_null_safe else f"{known} = {asked}"
                )
    answers = [f"p.{keys.sql.quote(column.name)}" for column in record.columns if column.role != "key"]
    return "\n".join(
        [
            "WITH keys AS (",
            keys.about_keys,
            *([keys.about_floats] if has_float_intervals else []),
            f"  SELECT {_lines(examples, ',', 9)}",
            ")",
            f"SELECT k.*, {', '.join(answers)}",
            "FROM keys AS k",
            f"{keys.join} {keys.view(record.job)} AS p",
            f"  ON {_lines(conditions, ' AND', 5)};",
        ]
    )


def _lines(parts: Iterable[str], separator: str, indent: int) -> str:
    return f"{separator}\n{' ' * indent}".join(parts)


def _example(name: str, value: Value, sql_type: str, sql: Dialect) -> str:
    text = "NULL" if value is None else sql.literal(value)
    return f"CAST({text} AS {sql_type}) AS {sql.quote(name)}"


def _inside(row: Mapping[str, Value], feature: str) -> Value:
    """A number in the row's interval; None for the row of the missing value."""
    low, high, is_missing = (row.get(name) for name in interval_columns(feature))
    if is_missing:
        return None
    if low is not None:
        return low
    if isinstance(high, float):
        return min(high - 1, float(np.nextafter(np.float32(high), np.float32(-np.inf))))
    return high - 1 if isinstance(high, int) else 0


def _in_interval(axis: PublishedAxis, keys: DuckDBKeys, is_float: bool) -> list[str]:
    asked = f"k.{keys.sql.quote(axis.intervals_of or '')}"
    seen = keys.as_float32(asked) if is_float else asked
    low, high, is_missing = (f"p.{keys.sql.quote(name)}" for name in interval_columns(axis.intervals_of or ""))
    if is_float and any(0 in bounds[:2] for bounds in axis.interval_rows()):
        # TensorFlow takes what is nearer to zero for zero, which only an edge there tells apart.
        seen = f"CASE WHEN ABS({seen}) < {_SMALLEST_NORMAL!r} THEN 0 ELSE {seen} END"
    conditions = [f"({low} IS NULL OR {low} <= {seen})", f"({high} IS NULL OR {seen} < {high})"]
    if len(axis.table.column_names) > 2:
        # The row of the missing value has no bounds, as has the whole line.
        conditions.append(f"{is_missing} = ({asked} IS NULL)")
    return conditions
