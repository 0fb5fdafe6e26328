"""Two nights' tables compared in SQL, over the whole of both.

They are joined on their key, a missing value being equal to a missing one. One query counts and averages, overall and
by slice; another for each output finds the rows that moved most.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from beam_jobs.warehouses.base import Column, Value
from beam_jobs.warehouses.changes import Changes, ComparedOutput, Comparison, Mover, OutputChange, SliceChange
from beam_jobs.warehouses.contracts import SHOWN_ROWS, Ask
from beam_jobs.warehouses.dialects import PERCENTS, Dialect
from configs.outputs import TableType

MOST_MOVERS = 20


class JoinedTables:
    """Two nights' tables, joined, and the questions about them."""

    def __init__(
        self, ask: Ask, dialect: Dialect, tables: tuple[str, str], columns: Sequence[Column], comparison: Comparison
    ):
        """Two tables, tonight's first.

        Args:
            tables: SQL of their rows.
            columns: of tonight's table.
        """
        self._ask, self._dialect = ask, dialect
        self._now, self._before = tables
        self._keys = [column for column in columns if column.role == "key"]
        self._outputs = comparison.outputs
        by_name = {column.name: column for column in columns}
        self._columns = [by_name[name] for output in comparison.outputs for name in output.columns]
        self._slices = comparison.slices

    def compare_by_key(self, quantile_rows: int = 1, sample: str | None = None) -> Changes:
        """Compares rows of the same key, whatever the spaces.

        Args:
            quantile_rows: one row in so many counts for the quantiles.
            sample: SQL condition that holds for these rows, over `key_0`, `key_1`, …
        """
        keys = (
            self._dialect.same_key(self._quoted("tonight", key), self._quoted("earlier", key), key.type)
            for key in self._keys
        )
        source = (
            f"(SELECT *, TRUE AS _is_there FROM {self._now} AS night) AS tonight FULL JOIN "
            f"(SELECT *, TRUE AS _is_there FROM {self._before} AS night) AS earlier ON {' AND '.join(keys)}"
        )
        merged = [f"COALESCE({self._quoted('tonight', key)}, {self._quoted('earlier', key)})" for key in self._keys]
        there = ["COALESCE(tonight._is_there, FALSE)", "COALESCE(earlier._is_there, FALSE)"]
        joined = self._joined(source, merged, *there)
        return self._compare("key", joined, quantile_rows, sample)[0]

    def compare_by_place(self, quantile_rows: int = 1, sample: str | None = None) -> Changes | None:
        """Compares rows of the same place, in DuckDB; None where two rows of one place have other keys after all."""
        source = f"{self._now} AS tonight POSITIONAL JOIN {self._before} AS earlier"
        keys = [self._quoted("tonight", key) for key in self._keys]
        differ = " OR ".join(
            f"{self._quoted('tonight', key)} IS DISTINCT FROM {self._quoted('earlier', key)}" for key in self._keys
        )
        joined = self._joined(source, keys, "TRUE", "TRUE", f"{differ} AS misplaced")
        changes, misplaced = self._compare("place", joined, quantile_rows, sample, "COUNTIF(misplaced) AS misplaced")
        return None if misplaced else changes

    def _quoted(self, table: str, column: Column) -> str:
        return f"{table}.{self._dialect.quote(column.name)}"

    def _joined(self, source: str, keys: Sequence[str], is_new: str, is_old: str, *more: str) -> str:
        selected = [f"{key} AS key_{index}" for index, key in enumerate(keys)]
        for index, column in enumerate(self._columns):
            selected.append(f"{self._quoted('tonight', column)} AS now_{index}")
            selected.append(f"{self._quoted('earlier', column)} AS before_{index}")
        selected += [f"{is_new} AS in_now", f"{is_old} AS in_before", *more]
        inner = f"(SELECT {', '.join(selected)} FROM {source})"
        changes = ", ".join(self._change(index, output) for index, output in enumerate(self._outputs))
        return f"(SELECT *, {changes} FROM {inner} AS joined)" if changes else inner

    def _change(self, index: int, output: ComparedOutput) -> str:
        """The change of an output as a number, NULL of a class; and whether it changed."""
        start = sum(len(earlier.columns) for earlier in self._outputs[:index])
        pairs = [
            (f"now_{place}", f"before_{place}", self._columns[place].type)
            for place in range(start, start + len(output.columns))
        ]
        is_common = "in_now AND in_before"
        if output.is_class or any(column_type.startswith("string") for *_, column_type in pairs):
            changed = " OR ".join(self._dialect.differs(*pair) for pair in pairs)
            no_change = f"CAST(NULL AS {self._dialect.number}) AS change_{index}"
            return f"{no_change}, {is_common} AND ({changed}) AS changed_{index}"
        moves, is_over = [], []
        for now, before, column_type in pairs:
            numbers = [self._size(number, column_type) for number in (now, before)]
            move = (
                self._dialect.distance(now, before)
                if column_type.endswith("[]")
                else f"{self._dialect.as_number(now)} - {self._dialect.as_number(before)}"
            )
            moves.append(move)
            is_over.append(self._dialect.exceeds(f"ABS({move})", output.threshold, column_type, *numbers))
        change = moves[0] if len(moves) == 1 else f"GREATEST({', '.join(f'ABS({move})' for move in moves)})"
        return (
            f"CASE WHEN {is_common} THEN {change} END AS change_{index}, "
            f"{is_common} AND COALESCE({' OR '.join(is_over)}, FALSE) AS changed_{index}"
        )

    def _size(self, number: str, column_type: TableType) -> str:
        """The number, or the one of an array that is farthest from zero."""
        if not column_type.endswith("[]"):
            return self._dialect.as_number(number)
        ends = (self._dialect.lowest(number), self._dialect.highest(number))
        return f"GREATEST({', '.join(f'COALESCE(ABS({self._dialect.as_number(end)}), 0)' for end in ends)})"

    def _compare(
        self, joined_by: Literal["key", "place"], joined: str, quantile_rows: int, sample: str | None, *more: str
    ) -> tuple[Changes, int]:
        rows = self._ask(self._summary(joined, sample, more))
        slices = [self._slice_change(row) for row in rows]
        overall = next(change for change, row in zip(slices, rows, strict=True) if not self._grouped(row))
        others = tuple(change for change in slices if change is not overall)
        if misplaced := max(row.get("misplaced", 0) for row in rows):
            return Changes(joined_by, overall, others, {}), misplaced
        new, gone = (
            self._some_keys(joined, "NOT in_before", overall.new),
            self._some_keys(joined, "NOT in_now", overall.gone),
        )
        return Changes(joined_by, overall, others, self._movers(joined), new, gone, quantile_rows), 0

    def _summary(self, joined: str, sample: str | None, more: Sequence[str]) -> str:
        counts = [
            "COUNTIF(in_now AND in_before) AS common",
            "COUNTIF(NOT in_before) AS new_rows",
            "COUNTIF(NOT in_now) AS gone_rows",
            *more,
        ]
        for index, output in enumerate(self._outputs):
            counts.append(f"COUNTIF(changed_{index}) AS changed_{index}")
            if not self._is_class(output):
                change = f"change_{index}"
                sampled = change if sample is None else f"CASE WHEN {sample} THEN {change} END"
                counts += [
                    f"AVG({change}) AS mean_{index}",
                    f"AVG(ABS({change})) AS mean_absolute_{index}",
                    f"MIN({change}) AS lowest_{index}",
                    f"MAX({change}) AS highest_{index}",
                    f"{self._dialect.quantiles(sampled)} AS quantiles_{index}",
                ]
        keys = self._slice_keys()
        if not keys:
            return f"SELECT {', '.join(counts)} FROM {joined} AS compared"
        selected = [f"key_{key}, GROUPING(key_{key}) AS is_all_{key}" for key in keys]
        sets = ["()", *(f"({', '.join(f'key_{key}' for key in self._places(names))})" for names in self._slices)]
        return (
            f"SELECT {', '.join([*selected, *counts])} FROM {joined} AS compared GROUP BY GROUPING SETS "
            f"({', '.join(sets)})"
        )

    def _slice_change(self, row: Mapping[str, Any]) -> SliceChange:
        names = {self._keys[key].name: row[f"key_{key}"] for key in self._grouped(row)}
        outputs = {}
        for index, output in enumerate(self._outputs):
            found = row.get(f"quantiles_{index}")
            quantiles = dict(zip(PERCENTS, self._dialect.picked_quantiles(found), strict=True)) if found else {}
            if quantiles:
                # Of every row, whatever part of them the quantiles are of.
                quantiles |= {PERCENTS[0]: row[f"lowest_{index}"], PERCENTS[-1]: row[f"highest_{index}"]}
            mean, mean_absolute = row.get(f"mean_{index}"), row.get(f"mean_absolute_{index}")
            outputs[output.name] = OutputChange(row[f"changed_{index}"], mean, mean_absolute, quantiles)
        return SliceChange(names, row["common"], row["new_rows"], row["gone_rows"], outputs)

    def _movers(self, joined: str) -> dict[str, tuple[Mover, ...]]:
        keys = self._key_names()
        values = [f"{night}_{index}" for index in range(len(self._columns)) for night in ("before", "now")]
        movers = {}
        for index, output in enumerate(self._outputs):
            farthest = [] if self._is_class(output) else [f"ABS(change_{index}) DESC"]
            moved = f"changed_{index}" if self._is_class(output) else f"change_{index} <> 0"
            rows = self._ask(
                f"SELECT {', '.join([*keys, *values])}, change_{index} AS change FROM {joined} AS compared "
                f"WHERE {moved} ORDER BY {', '.join([*farthest, *self._key_order()])} LIMIT {MOST_MOVERS}"
            )
            movers[output.name] = tuple(self._mover(row) for row in rows)
        return movers

    def _some_keys(self, joined: str, condition: str, count: int) -> tuple[dict[str, Value], ...]:
        if not count:
            return ()
        rows = self._ask(
            f"SELECT {', '.join(self._key_names())} FROM {joined} AS compared WHERE {condition} "
            f"ORDER BY {', '.join(self._key_order())} LIMIT {SHOWN_ROWS}"
        )
        return tuple(self._key_of(row) for row in rows)

    def _mover(self, row: Mapping[str, Any]) -> Mover:
        before, now = (
            {column.name: row[f"{night}_{index}"] for index, column in enumerate(self._columns)}
            for night in ("before", "now")
        )
        return Mover(row["change"], self._key_of(row), before, now)

    def _key_of(self, row: Mapping[str, Any]) -> dict[str, Value]:
        return {column.name: row[f"key_{index}"] for index, column in enumerate(self._keys)}

    def _key_names(self) -> list[str]:
        return [f"key_{index}" for index in range(len(self._keys))]

    def _key_order(self) -> list[str]:
        return [f"{key} NULLS LAST" for key in self._key_names()]

    def _is_class(self, output: ComparedOutput) -> bool:
        types = [column.type for column in self._columns if column.name in output.columns]
        return output.is_class or any(column_type.startswith("string") for column_type in types)

    def _places(self, names: Sequence[str]) -> list[int]:
        keys = [key.name for key in self._keys]
        return [keys.index(name) for name in names]

    def _slice_keys(self) -> list[int]:
        return sorted({place for names in self._slices for place in self._places(names)})

    def _grouped(self, row: Mapping[str, Any]) -> list[int]:
        """Keys by whose values the row is grouped."""
        return [key for key in self._slice_keys() if not row[f"is_all_{key}"]]
