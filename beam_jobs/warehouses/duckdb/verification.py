"""Proof that a night's shards hold the whole input space and nothing else, in one scan by DuckDB.

A key's position in the space follows from the axes, and rows lie in row-major order. So a shard is right where each
key's position is the row's own; with excluded points, where positions strictly increase inside the shard's blocks, none
is an excluded one, and they are as many as planned. No sort of the table, no set of all keys.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.warehouses.base import Check, Column, Night, NightRecord, Verification
from beam_jobs.warehouses.checks import check_names, check_schema, first_difference, key_text, refused
from beam_jobs.warehouses.duckdb.catalog import connect_in_memory
from beam_jobs.warehouses.duckdb.views import quote, scan
from configs.errors import RefusedError

SHOWN_KEYS = 3


@dataclasses.dataclass(frozen=True)
class _Axis:
    """An axis in DuckDB: `table` has its columns and each row's index in `#index`."""

    table: str
    columns: tuple[str, ...]
    columns_with_missing: frozenset[str]
    rows: int


def check_shards(night: Night, paths: Sequence[str]) -> Check:
    """The shards are there, as long as the manifest says, in its schema and on its block grid; no content is read.

    Raises:
        RefusedError: they are not.
        JobError: the night's columns cannot be published.
    """
    check_names(night)
    schema = pa.schema([(column.name, column.arrow_type) for column in night.manifest.columns])
    first_block = 0
    for shard, path in zip(night.manifest.shards, paths, strict=True):
        try:
            size, found = os.path.getsize(path), pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise refused("shards", f"{path}: not a readable Parquet file", "run precompute again") from error
        if size != shard.bytes:
            raise refused(
                "shards", f"{path}: {size:,} bytes, the manifest says {shard.bytes:,}", "run precompute again"
            )
        if not found.equals(schema):
            raise refused("shards", f"{path}: {_schema_difference(found, schema)}", "run precompute again")
        if shard.first_block != first_block:
            raise refused("shards", f"{path}: starts at block {shard.first_block}, expected {first_block}")
        first_block += shard.blocks
    return Check("shards", f"{len(paths):,} files as in the manifest")


def verify_table(night: Night, paths: Sequence[str], previous: NightRecord | None) -> Verification:
    """Proves that the shards hold each point of the space once, with a prediction each.

    Args:
        paths: of the shards, as in the manifest.
        previous: the night that readers see, whose schema this one must have.

    Raises:
        RefusedError: a check failed that nobody accepted.
    """
    shards = check_shards(night, paths)
    schema = check_schema(night, previous)
    with connect_in_memory() as connection:
        keys = frozenset(column.name for column in night.columns if column.role == "key")
        published = frozenset(column.name for column in night.columns)
        axes = [_load_axis(connection, index, path, keys, published) for index, path in enumerate(night.axes)]
        table = _Table(connection, night, paths, axes)
        checks = (
            shards,
            table.check_rows(),
            table.check_keys(),
            table.check_excluded(),
            table.check_predictions(),
            schema,
        )
    return Verification(night.manifest.rows, checks)


class _Table:
    """The night's rows with the position of each key; what all checks count comes from one scan."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, night: Night, paths: Sequence[str], axes: Sequence[_Axis]
    ):
        self._connection = connection
        self._night = night
        self._paths = paths
        self._axes = axes
        self._cardinality = math.prod(axis.rows for axis in axes)
        self._outputs = [column for column in night.columns if column.role == "output"]
        counts = {
            "rows": "count(*)",
            "misplaced": f"count_if({self._misplaced()})",
            "excluded": 'count_if("#excluded")',
            **{f"output {column.name}": f"count_if({_no_prediction(column)})" for column in self._outputs},
        }
        values = connection.execute(f"SELECT {', '.join(counts.values())} FROM {self._rows(paths)}").fetchone()
        assert values is not None
        self._counts: dict[str, int] = dict(zip(counts, values, strict=True))

    def check_rows(self) -> Check:
        """Rows: those of the files, the manifest, the plan, and the product of the axes less what is excluded."""
        night, rows = self._night, self._counts["rows"]
        said = {
            "the manifest": night.manifest.rows,
            "the plan": night.planned_rows,
            "the product of the axes less the excluded points": self._cardinality - night.excluded,
        }
        for what, expected in said.items():
            if rows != expected:
                keys = self._first_keys(self._misplaced()) if self._counts["misplaced"] else ""
                where = f"; first keys out of place: {keys}" if keys else ""
                raise refused("rows", f"{rows:,} rows in the shards, {expected:,} in {what}{where}")
        return Check(
            "rows", f"{rows:,} rows, as planned: {self._cardinality:,} points less {night.excluded:,} excluded"
        )

    def check_keys(self) -> Check:
        """Each key exactly once, in its place."""
        if self._counts["misplaced"]:
            count = f"{self._counts['misplaced']:,} rows whose key is not the one of their place"
            raise refused("keys", f"{count}, first {self._first_keys(self._misplaced())}", "run precompute again")
        if self._night.exclude is not None:
            for shard, path in zip(self._night.manifest.shards, self._paths, strict=True):
                self._check_order(shard.first_block, shard.blocks, path)
        return Check("keys", "each key of the space exactly once")

    def check_excluded(self) -> Check:
        """No excluded point has a row."""
        if self._counts["excluded"]:
            keys = self._first_keys('"#excluded"')
            raise refused("excluded", f"{self._counts['excluded']:,} rows of excluded points, first {keys}")
        return Check("excluded", f"{self._night.excluded:,} points excluded, none of them in the table")

    def check_predictions(self) -> Check:
        """Every row has a prediction, and it is a number."""
        for column in self._outputs:
            if count := self._counts[f"output {column.name}"]:
                keys = self._first_keys(_no_prediction(column))
                problem = f"{column.name} is NULL, NaN or infinite in {count:,} rows, first {keys}"
                raise refused("predictions", problem, "train again, or look at the features of these rows")
        return Check("predictions", f"no NULL, no NaN in {', '.join(column.name for column in self._outputs)}")

    def _check_order(self, first_block: int, blocks: int, path: str) -> None:
        low, high = (block * self._night.manifest.block_rows for block in (first_block, first_block + blocks))
        previous = 'lag("#position") OVER (ORDER BY "#row")'
        wrong = f'"#position" <= {previous} OR "#position" < {low} OR "#position" >= {high}'
        query = f'SELECT *, ({wrong}) AS "#wrong" FROM {self._rows([path])}'
        count = self._connection.execute(f'SELECT count_if("#wrong") FROM ({query})').fetchall()[0][0]
        if count:
            keys = self._first_keys('"#wrong"', f"({query})")
            problem = f"{path}: {count:,} rows whose key comes twice or out of order, first {keys}"
            raise refused("keys", problem, "run precompute again")

    def _misplaced(self) -> str:
        """Condition: the key is none of the space's or, without excluded points, another place's."""
        return '"#position" IS NULL' if self._night.exclude is not None else '"#position" IS DISTINCT FROM "#place"'

    def _rows(self, paths: Sequence[str]) -> str:
        """SQL of some shards' rows with `#position`, from the axes, and `#place`, from the shard and the row in it."""
        first_blocks = {path: s.first_block for path, s in zip(self._paths, self._night.manifest.shards, strict=True)}
        starts = [first_blocks[path] * self._night.manifest.block_rows for path in paths]
        exclude = f"coalesce(CAST((\n{self._night.exclude}\n) AS BOOLEAN), false)" if self._night.exclude else "false"
        source = (
            f'SELECT *, file_index AS "#file", file_row_number AS "#row", {exclude} AS "#excluded", '
            f'({starts}::BIGINT[])[file_index::BIGINT + 1] + file_row_number AS "#place" FROM {scan(paths)}'
        )
        joins, terms, stride = [], [], self._cardinality
        for axis in self._axes:
            stride //= max(axis.rows, 1)
            terms.append(f'{axis.table}."#index" * {stride}')
            joins.append(f"LEFT JOIN {axis.table} ON {_same_key(axis)}")
        position = " + ".join(terms)
        return f'(SELECT shard.*, {position} AS "#position" FROM ({source}) AS shard {" ".join(joins)})'

    def _first_keys(self, condition: str, rows: str | None = None) -> str:
        keys = [column for column in self._night.columns if column.role == "key"]
        names = ", ".join(quote(column.name) for column in keys)
        found = self._connection.execute(
            f"SELECT {names} FROM {rows or self._rows(self._paths)} WHERE {condition} "
            f'ORDER BY "#file", "#row" LIMIT {SHOWN_KEYS}'
        ).fetchall()
        return "; ".join(key_text(zip(keys, values, strict=True)) for values in found)


def _load_axis(
    connection: duckdb.DuckDBPyConnection, index: int, path: str, key_columns: frozenset[str], published: frozenset[str]
) -> _Axis:
    table = f"axis_{index}"
    try:
        connection.execute(f'CREATE TABLE {table} AS SELECT *, file_row_number AS "#index" FROM {scan([path])}')
    except duckdb.IOException as error:
        raise RefusedError(f"{path}: cannot read the axis; run plan again") from error
    names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall() if row[0] in published]
    counts = ", ".join(f"count(*) - count({quote(name)})" for name in names)
    distinct_by = ", ".join(quote(name) for name in names if name in key_columns)
    rows, *missing = connection.execute(f"SELECT count(*), {counts} FROM {table}").fetchall()[0]
    distinct = connection.execute(f"SELECT count(*) FROM (SELECT DISTINCT {distinct_by} FROM {table})").fetchall()[0][0]
    if distinct != rows:
        raise refused("keys", f"{path}: {rows - distinct:,} rows of the axis are there twice", "run plan again")
    with_missing = frozenset(name for name, count in zip(names, missing, strict=True) if count)
    return _Axis(table, tuple(names), with_missing, rows)


def _same_key(axis: _Axis) -> str:
    # Plain equality where it is enough: then a NULL that the axis does not have finds no row.
    return " AND ".join(
        f"shard.{quote(name)} {'IS NOT DISTINCT FROM' if name in axis.columns_with_missing else '='} "
        f"{axis.table}.{quote(name)}"
        for name in axis.columns
    )


def _no_prediction(column: Column) -> str:
    name = quote(column.name)
    wrong = "{0} IS NULL OR NOT isfinite({0})" if column.type.startswith("float") else "{0} IS NULL"
    if not column.type.endswith("[]"):
        return wrong.format(name)
    return f"{name} IS NULL OR len(list_filter({name}, lambda value: {wrong.format('value')})) > 0"


def _schema_difference(found: pa.Schema, expected: pa.Schema) -> str:
    def by_name(schema: pa.Schema) -> dict[str, str]:
        return {field.name: str(field.type) for field in schema}

    return f"{first_difference(by_name(expected), by_name(found))} (the manifest)"
