"""The SQL that an analyst starts from: the predictions of some keys, whatever kinds of axes the table has."""

from collections.abc import Iterable, Mapping, Sequence

from beam_jobs.published_axes import PublishedAxis
from beam_jobs.warehouses.base import NightRecord, Value
from beam_jobs.warehouses.duckdb_views import literal, quote
from configs.outputs import TableType
from configs.space import interval_columns

_SQL_TYPES: dict[TableType, str] = {"string": "VARCHAR", "float": "DOUBLE", "int": "BIGINT"}
# Inside the statement, so that the whole of it can be handed to `foretable query`, which takes -- for an option.
_ABOUT_KEYS = """\
  -- The keys to look up, one SELECT each and UNION ALL between them; NULL is the missing value.
  -- The prediction of a key that is not in the table is NULL."""
_AS_THE_MODEL_SEES_IT = "  -- As FLOAT, a number is what the model sees, and falls in the model's interval."


def key_query(record: NightRecord, axes: Sequence[PublishedAxis], row: Mapping[str, Value]) -> str:
    """A query of `<job>_predictions` for a key, in DuckDB's dialect.

    Args:
        axes: of the record.
        row: of the table, whose key is the example.
    """
    columns = {column.name: column for column in record.columns}
    examples, conditions = [], []
    has_float_intervals = False
    for axis in axes:
        if axis.intervals_of is not None:
            low = columns[interval_columns(axis.intervals_of)[0]]
            has_float_intervals |= low.type == "float"
            example = _inside(row, axis.intervals_of)
            sql_type = "FLOAT" if low.type == "float" else _SQL_TYPES[low.type]
            examples.append(_example(axis.intervals_of, example, sql_type))
            conditions += _in_interval(axis)
        else:
            for name in axis.asked:
                examples.append(_example(name, row[name], _SQL_TYPES[columns[name].type]))
                is_null_safe = axis.table[name].null_count > 0
                conditions.append(f"p.{quote(name)} {'IS NOT DISTINCT FROM' if is_null_safe else '='} k.{quote(name)}")
    answers = [f"p.{quote(column.name)}" for column in record.columns if column.role != "key"]
    return "\n".join(
        [
            "WITH keys AS (",
            _ABOUT_KEYS,
            *([_AS_THE_MODEL_SEES_IT] if has_float_intervals else []),
            f"  SELECT {_lines(examples, ',', 9)}",
            ")",
            f"SELECT k.*, {', '.join(answers)}",
            "FROM keys AS k",
            f"LEFT JOIN {quote(f'{record.job}_predictions')} AS p",
            f"  ON {_lines(conditions, ' AND', 5)};",
        ]
    )


def _lines(parts: Iterable[str], separator: str, indent: int) -> str:
    return f"{separator}\n{' ' * indent}".join(parts)


def _example(name: str, value: Value, sql_type: str) -> str:
    text = "NULL" if value is None else literal(value) if isinstance(value, str) else repr(value)
    return f"CAST({text} AS {sql_type}) AS {quote(name)}"


def _inside(row: Mapping[str, Value], feature: str) -> Value:
    """A number in the row's interval; None for the row of the missing value."""
    low, high, is_missing = (row.get(name) for name in interval_columns(feature))
    if is_missing:
        return None
    if low is not None:
        return low
    return high - 1 if isinstance(high, float | int) else 0


def _in_interval(axis: PublishedAxis) -> list[str]:
    asked = f"k.{quote(axis.intervals_of or '')}"
    low, high, is_missing = (f"p.{quote(name)}" for name in interval_columns(axis.intervals_of or ""))
    conditions = [f"({low} IS NULL OR {low} <= {asked})", f"({high} IS NULL OR {asked} < {high})"]
    if len(axis.table.column_names) > 2:
        # The row of the missing value has no bounds, as has the whole line.
        conditions.append(f"{is_missing} = ({asked} IS NULL)")
    return conditions
