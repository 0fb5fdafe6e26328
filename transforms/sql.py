"""SQL expressions of the job file, one value for each row, evaluated on columns by DuckDB.

DuckDB parses as well as evaluates, so that no second reading of its dialect can come to disagree with it. An expression
sees one row at a time and nothing else: no files, no other rows, no clock, no chance.
"""

import difflib
import functools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from configs.errors import JobError

_TABLE = "examples"
_CONFIG = {
    "threads": "1",
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}
_FORBIDDEN_CLASSES = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a parameter",
}
_local = threading.local()


def evaluate_expression(expression: str, table: pa.Table | pa.RecordBatch) -> pa.Array:
    """Evaluates a SQL expression on each row.

    Args:
        expression: in DuckDB's dialect, e.g. `tips > 0.2 * fare`.
        table: the rows, with at least the columns that the expression names.

    Returns:
        `[num_rows]` of the expression's own type, in the rows' order.

    Raises:
        JobError: it is no valid expression, names an unknown column, depends on more than its row, or fails on a row.
    """
    names = referenced_columns(expression, table.schema.names)
    rows = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    connection = _connection()
    connection.register(_TABLE, rows.select(names) if names else rows)
    try:
        values = connection.sql(_query(expression)).to_arrow_table().column(0).combine_chunks()
    except duckdb.Error as error:
        raise JobError(f"{expression!r}: {_first_line(error)}") from error
    finally:
        connection.unregister(_TABLE)
    if len(values) != rows.num_rows:
        raise JobError(f"{expression!r}: expected one value a row, got {len(values)} for {rows.num_rows} rows")
    return values


def referenced_columns(expression: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that a SQL expression reads.

    Args:
        expression: in DuckDB's dialect.
        columns: the known ones; as everywhere in SQL, an expression may write them in any case.

    Returns:
        Names as they are in `columns`, and in that order.

    Raises:
        JobError: it is not one valid expression, names an unknown column, or depends on more than its row.
    """
    folded = {name.casefold(): name for name in reversed(columns)}
    found: set[str] = set()
    for name, may_be_parameter in _column_references(_parse(expression), expression, frozenset()):
        known = name if name in columns else folded.get(name.casefold())
        if known is not None:
            found.add(known)
        elif not may_be_parameter:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f", expected one of {', '.join(columns)}"
            raise JobError(f"{expression!r}: unknown column {name!r}{hint}")
    return tuple(name for name in columns if name in found)


def _query(expression: str) -> str:
    # The line breaks keep a comment at the expression's end from swallowing the rest.
    return f"SELECT (\n{expression}\n) AS value FROM {_TABLE}"


def _parse(expression: str) -> Any:
    """Syntax tree of the expression, after a check that it does not break out of the query around it."""
    tree = _syntax_tree(_query(expression))
    if tree["error"]:
        raise JobError(f"{expression!r}: {tree['error_message'].splitlines()[0]}")
    frame = _syntax_tree(_query("1"))
    if len(tree["statements"]) != 1 or _without_select_list(tree) != _without_select_list(frame):
        raise JobError(f"{expression!r}: expected one SQL expression")
    select_list = tree["statements"][0]["node"]["select_list"]
    if len(select_list) != 1:
        raise JobError(f"{expression!r}: expected one SQL expression, got {len(select_list)}")
    return select_list[0]


def _syntax_tree(query: str) -> Any:
    rows = _connection().execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    return json.loads(rows[0][0])


def _without_select_list(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_select_list(child) for child in node]
    if not isinstance(node, dict):
        return node
    dropped = ("select_list", "query_location", "query_location_length")
    return {key: _without_select_list(child) for key, child in node.items() if key not in dropped}


def _column_references(node: Any, expression: str, parameters: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Names that stand for columns, each with whether it may as well be a lambda's parameter."""
    if isinstance(node, list):
        for child in node:
            yield from _column_references(child, expression, parameters)
    if not isinstance(node, Mapping):
        return
    if (node_class := node.get("class")) in _FORBIDDEN_CLASSES:
        raise JobError(f"{expression!r}: expected an expression over one row, got {_FORBIDDEN_CLASSES[node_class]}")
    if node_class == "FUNCTION" and (reason := _refused_functions().get(node["function_name"])):
        raise JobError(f"{expression!r}: expected an expression over one row, got {node['function_name']}(), {reason}")
    if node_class == "COLUMN_REF":
        if (name := node["column_names"][0]) not in parameters:
            yield name, False
        return
    if node_class == "LAMBDA":
        own = {name for name, _ in _column_references(node["lhs"], expression, frozenset())}
        if node.get("syntax_type") != "LAMBDA_KEYWORD":
            # `a -> b` is a lambda or reads a JSON field of a; only the binder can tell. A known name is read.
            yield from ((name, True) for name in own)
        yield from _column_references(node["expr"], expression, parameters | own)
        return
    for child in node.values():
        yield from _column_references(child, expression, parameters)


@functools.cache
def _refused_functions() -> dict[str, str]:
    query = "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()"
    refused: dict[str, str] = {}
    for name, function_type, stability in _connection().execute(query).fetchall():
        if function_type == "aggregate":
            refused[name] = "an aggregate"
        elif stability in ("VOLATILE", "CONSISTENT_WITHIN_QUERY"):
            refused[name] = "which differs from call to call"
    return refused


def _connection() -> duckdb.DuckDBPyConnection:
    """This thread's own connection: DuckDB's are not safe to share between threads."""
    if not hasattr(_local, "connection"):
        _local.connection = duckdb.connect(":memory:", config=_CONFIG)
    return _local.connection


def _first_line(error: Exception) -> str:
    line = str(error).splitlines()[0]
    return line[:1].lower() + line[1:]
