"""Proof that a loaded table holds the whole input space and nothing else, in one query.

A BigQuery table has no order, so the proof is another than over shards: there are as many rows as the product of the
axes has points, no key comes twice, and every value that occurs in an axis's columns is a row of that axis. So the keys
are the space. Of a space with excluded points, that shows that the keys are points of it and as many as planned.
"""

import dataclasses
import datetime
import math
from typing import Any

from google.cloud import bigquery

from beam_jobs.published_axes import PublishedAxis, read_axes
from beam_jobs.warehouses.base import Check, Column, Night, NightRecord, Verification
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.sql import quote, schema_field, select_list
from beam_jobs.warehouses.checks import check_schema, first_difference, key_text, refused

SHOWN_KEYS = 3
_MOST_AXIS_ROWS = 100_000
"""A longer axis is not compared value by value: what it takes to read and to send is out of proportion."""


@dataclasses.dataclass(frozen=True)
class _Axis:
    """An axis to compare with.

    Attributes:
        rows: each row's values, in the order of `columns`; None of an axis that is too long.
        count: of its rows.
    """

    path: str
    columns: tuple[Column, ...]
    rows: frozenset[tuple[Any, ...]] | None
    count: int


def verify_loaded(dataset: Dataset, night: Night, name: str, previous: NightRecord | None) -> Verification:
    """Proves that the table `name` holds each point of the space once, with a prediction each.

    Args:
        previous: the night that readers see, whose schema this one must have.

    Raises:
        RefusedError: a check failed that nobody accepted.
    """
    table = dataset.table(name)
    if table is None:
        raise refused("rows", f"{dataset.path(name)} is not there", "publish the night again")
    schema = check_schema(night, previous)
    _check_types(table, night)
    loaded = _LoadedTable(dataset, night, name, _read_axes(night))
    checks = (loaded.check_rows(), loaded.check_keys(), loaded.check_excluded(), loaded.check_predictions(), schema)
    return Verification(night.manifest.rows, checks)


class _LoadedTable:
    """The night's table; what all checks count comes from one query."""

    def __init__(self, dataset: Dataset, night: Night, name: str, axes: list[_Axis]):
        self._dataset = dataset
        self._night = night
        self._axes = axes
        self._source = quote(dataset.path(name))
        self._keys = [column for column in night.columns if column.role == "key"]
        self._outputs = [column for column in night.columns if column.role == "output"]
        ((self._counts),) = [dict(row) for row in dataset.select(self._query())]

    def check_rows(self) -> Check:
        """Rows: those of the table, the manifest, the plan, and the product of the axes less what is excluded."""
        night, rows = self._night, self._counts["row_count"]
        product = math.prod(axis.count for axis in self._axes)
        said = {
            "the manifest": night.manifest.rows,
            "the plan": night.planned_rows,
            "the product of the axes less the excluded points": product - night.excluded,
        }
        for what, expected in said.items():
            if rows != expected:
                raise refused("rows", f"{rows:,} rows in the table, {expected:,} in {what}{self._first_twice()}")
        return Check("rows", f"{rows:,} rows, as planned: {product:,} points less {night.excluded:,} excluded")

    def check_keys(self) -> Check:
        """Each key exactly once, and a point of the space."""
        twice = self._counts["row_count"] - self._counts["key_count"]
        if twice:
            raise refused("keys", f"{twice:,} rows whose key is there already{self._first_twice()}", "publish again")
        unread = []
        for index, axis in enumerate(self._axes):
            if axis.rows is None:
                unread.append(axis)
                continue
            names = [column.name for column in axis.columns]
            found = {tuple(row[name] for name in names) for row in self._counts[f"axis_{index}"]}
            if strays := sorted(found - axis.rows, key=repr):
                keys = "; ".join(key_text(zip(axis.columns, stray, strict=True)) for stray in strays[:SHOWN_KEYS])
                raise refused("keys", f"values that are in no row of {axis.path}: {keys}", "run precompute again")
        but = "".join(f"; the {axis.count:,} rows of {axis.path} are not compared one by one" for axis in unread)
        return Check("keys", f"each key of the space exactly once{but}")

    def check_excluded(self) -> Check:
        """As many points are absent as `exclude` takes away."""
        if self._night.exclude is None:
            return Check("excluded", "no points excluded")
        return Check("excluded", f"{self._night.excluded:,} points absent, as many as planned")

    def check_predictions(self) -> Check:
        """Every row has a prediction, and it is a number."""
        for index, column in enumerate(self._outputs):
            if count := self._counts[f"wrong_{index}"]:
                keys = self._keys_where(f"WHERE {_no_prediction(column)}")
                problem = f"{column.name} is NULL, NaN or infinite in {count:,} rows, first {keys}"
                raise refused("predictions", problem, "train again, or look at the features of these rows")
        return Check("predictions", f"no NULL, no NaN in {', '.join(column.name for column in self._outputs)}")

    def _query(self) -> str:
        wrong = [f"COUNTIF({_no_prediction(column)}) AS wrong_{i}" for i, column in enumerate(self._outputs)]
        by_key = (
            f"SELECT COUNT(*) AS times{''.join(f', {count}' for count in wrong)} "
            f"FROM {self._source} GROUP BY {select_list(self._keys)}"
        )
        counts = ["COALESCE(SUM(times), 0) AS row_count", "COUNT(*) AS key_count"]
        counts += [f"COALESCE(SUM(wrong_{i}), 0) AS wrong_{i}" for i in range(len(self._outputs))]
        for index, axis in enumerate(self._axes):
            if axis.rows is not None:
                names = select_list(axis.columns)
                counts.append(
                    f"ARRAY(SELECT AS STRUCT {names} FROM {self._source} GROUP BY {names} "
                    f"LIMIT {axis.count + SHOWN_KEYS}) AS axis_{index}"
                )
        return f"SELECT {', '.join(counts)} FROM ({by_key})"

    def _first_twice(self) -> str:
        keys = self._keys_where(f"GROUP BY {select_list(self._keys)} HAVING COUNT(*) > 1")
        return f", first {keys}" if keys else ""

    def _keys_where(self, condition: str) -> str:
        names = select_list(self._keys)
        rows = self._dataset.select(
            f"SELECT {names} FROM {self._source} {condition} ORDER BY {names} LIMIT {SHOWN_KEYS}"
        )
        return "; ".join(key_text(zip(self._keys, row.values(), strict=True)) for row in rows)


def _read_axes(night: Night) -> list[_Axis]:
    points = night.planned_rows + night.excluded
    published = {column.name: column for column in night.columns if column.role != "output"}
    if len(night.axes) == 1 and points > _MOST_AXIS_ROWS:
        return [_Axis(night.axes[0], tuple(published.values()), None, points)]
    record = NightRecord.of(night, datetime.datetime.now(datetime.UTC))
    axes = read_axes(record, tuple(published))
    return [_axis(path, axis, published) for path, axis in zip(night.axes, axes, strict=True)]


def _axis(path: str, axis: PublishedAxis, published: dict[str, Column]) -> _Axis:
    columns = tuple(published[name] for name in axis.table.column_names)
    count = axis.table.num_rows
    keys = axis.table.select([column.name for column in columns if column.role == "key"])
    distinct = keys.group_by(keys.column_names).aggregate([]).num_rows
    if distinct != count:
        raise refused("keys", f"{path}: {count - distinct:,} rows of the axis are there twice", "run plan again")
    if count > _MOST_AXIS_ROWS:
        return _Axis(path, columns, None, count)
    rows = frozenset(zip(*(axis.table[column.name].to_pylist() for column in columns), strict=True))
    return _Axis(path, columns, rows, count)


def _check_types(table: bigquery.Table, night: Night) -> None:
    expected = {column.name: _type_text(schema_field(column)) for column in night.columns}
    found = {field.name: _type_text(field) for field in table.schema}
    if (difference := first_difference(expected, found)) is not None:
        raise refused("schema", f"{difference} (the manifest)", "delete the table and publish the night again")


def _type_text(field: bigquery.SchemaField) -> str:
    # The API answers with the names of the old dialect.
    names = {"FLOAT": "FLOAT64", "INTEGER": "INT64", "BOOLEAN": "BOOL"}
    name = names.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else str(name)


def _no_prediction(column: Column) -> str:
    def wrong(value: str) -> str:
        return f"{value} IS NULL OR IS_NAN({value}) OR IS_INF({value})" if is_float else f"{value} IS NULL"

    name, is_float = quote(column.name), column.type.startswith("float")
    if not column.type.endswith("[]"):
        return wrong(name)
    # A NULL array becomes an empty one when it is loaded.
    has_wrong = f"EXISTS (SELECT 1 FROM UNNEST({name}) AS value WHERE {wrong('value')})"
    return f"IFNULL(ARRAY_LENGTH({name}), 0) = 0 OR {has_wrong}"
