"""The GoogleSQL of a BigQuery warehouse: names, types, and the views that readers see."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from google.cloud import bigquery

from beam_jobs.warehouses.base import Column, Night, NightRecord, Value
from beam_jobs.warehouses.published_tables import one_a_date
from configs.errors import JobError
from configs.features import ColumnType
from configs.outputs import TableType

SQL_TYPES: dict[ColumnType | str, str] = {"string": "STRING", "float": "FLOAT64", "int": "INT64", "bool": "BOOL"}
"""A float is a FLOAT64 in BigQuery, a model's float32 output too: the same numbers, in a wider type."""
MOST_CLUSTERING_COLUMNS = 4
_MOST_DESCRIPTION = {"table": 16_384, "column": 1_024}
_CANNOT_CLUSTER = ("float",)  # BigQuery clusters by discrete types only
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_RESERVED_PREFIXES = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")


def quote(name: str) -> str:
    """An identifier, or a path of several."""
    return f"`{name}`"


def literal(text: str) -> str:
    """A STRING."""
    return json.dumps(text, ensure_ascii=False)


def label_value(text: str) -> str:
    """The text as a label's value: lower case letters, digits, dashes and underscores, 63 at most."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def check_names(night: Night) -> None:
    """Every column can be one of BigQuery's.

    Raises:
        JobError: one cannot.
    """
    for column in night.columns:
        if not _NAME.fullmatch(column.name) or column.name.lower().startswith(_RESERVED_PREFIXES):
            raise JobError(
                f"column {column.name!r}: BigQuery takes letters, digits and underscores, and some beginnings are its "
                "own; rename the feature or the model's output"
            )


def sql_type(column_type: TableType) -> str:
    """The type of a column."""
    name = SQL_TYPES[column_type.removesuffix("[]")]
    return f"ARRAY<{name}>" if column_type.endswith("[]") else name


def schema_field(column: Column) -> bigquery.SchemaField:
    """The column in a table's schema."""
    return bigquery.SchemaField(
        column.name,
        SQL_TYPES[column.type.removesuffix("[]")],
        mode="REPEATED" if column.type.endswith("[]") else "NULLABLE",
        description=column.description[: _MOST_DESCRIPTION["column"]] or None,
    )


def clustering(columns: Iterable[Column]) -> list[str]:
    """The first key columns that BigQuery can cluster by."""
    keys = [column.name for column in columns if column.role == "key" and column.type not in _CANNOT_CLUSTER]
    return keys[:MOST_CLUSTERING_COLUMNS]


def select_list(columns: Iterable[Column]) -> str:
    """The columns' names, for SELECT."""
    return ", ".join(quote(column.name) for column in columns)


def parameter(name: str, value: Value, column_type: TableType) -> bigquery.ScalarQueryParameter:
    """A query parameter."""
    return bigquery.ScalarQueryParameter(name, SQL_TYPES[column_type], value)


def create_view(path: str, select: str, columns: Iterable[Column], description: str, labels: Mapping[str, str]) -> str:
    """Makes a view, or replaces it in one step, with all that is said about it."""
    named = []
    for column in columns:
        about = column.description[: _MOST_DESCRIPTION["column"]]
        named.append(quote(column.name) + (f" OPTIONS (description = {literal(about)})" if about else ""))
    pairs = ", ".join(f"({literal(key)}, {literal(value)})" for key, value in sorted(labels.items()))
    return (
        f"CREATE OR REPLACE VIEW {quote(path)} ({', '.join(named)})\n"
        f"OPTIONS (description = {literal(description[: _MOST_DESCRIPTION['table']])}, labels = [{pairs}])\n"
        f"AS {select}"
    )


def select_night(record: NightRecord, path: str) -> str:
    """What `<job>_predictions` selects; `shown_table` reads the table's name from it."""
    return f"SELECT {select_list(record.columns)} FROM {quote(path)}"


def shown_table(view_query: str) -> str:
    """Name of the table that a view of one night selects from."""
    return view_query.rstrip(" ;\n").rpartition("FROM")[2].replace("`", "").strip().rpartition(".")[2]


def select_history(records: Sequence[NightRecord], dataset: str) -> tuple[str, tuple[Column, ...]]:
    """What `<job>_history` selects from the nights that are kept, one a date, and its columns.

    A column that a night does not have is NULL there; one whose type has changed gets a type that holds both.
    """
    nights = one_a_date(records)
    columns: dict[str, Column] = {}
    types: dict[str, set[TableType]] = {}
    for record in nights:
        for column in record.columns:
            columns.setdefault(column.name, column)
            types.setdefault(column.name, set()).add(column.type)
    selects = []
    for record in nights:
        own = {column.name: column.type for column in record.columns}
        is_alike = list(own) == list(columns) and all(len(types[name]) == 1 for name in own)
        values = ["*"] if is_alike else [_value(name, own.get(name), types[name]) for name in columns]
        selects.append(
            f"SELECT DATE {literal(record.run_date.isoformat())} AS run_date, {literal(record.run_id)} AS run_id, "
            f"{', '.join(values)} FROM {quote(f'{dataset}.{record.table}')}"
        )
    heads = (Column("run_date", "string", "key", "Date of the night"), Column("run_id", "string", "key", "Its run"))
    return "\nUNION ALL ".join(selects), (*heads, *columns.values())


def _value(name: str, own: TableType | None, types: set[TableType]) -> str:
    if own is None:
        common = _common_type(types)
        return f"CAST(NULL AS {common}) AS {quote(name)}"
    if len(types) == 1:
        return quote(name)
    text = f"TO_JSON_STRING({quote(name)})" if own.endswith("[]") else quote(name)
    return f"CAST({text} AS {_common_type(types)}) AS {quote(name)}"


def _common_type(types: set[TableType]) -> str:
    if len(types) == 1:
        return sql_type(next(iter(types)))
    return "FLOAT64" if types <= {"int", "float"} else "STRING"
