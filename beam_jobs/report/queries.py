"""The report's questions to the warehouse, in SQL that DuckDB and BigQuery both answer, over the whole table."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.warehouses.base import Column, NightRecord, Value, Warehouse
from beam_jobs.warehouses.dialects import BigQueryDialect, Dialect

BINS = 200
MOST_WORDS = 200


@dataclasses.dataclass(frozen=True)
class Tables:
    """A warehouse's tables, asked one column or one line of keys at a time."""

    warehouse: Warehouse
    dialect: Dialect

    @classmethod
    def of(cls, warehouse: Warehouse, job: Mapping[str, Any]) -> "Tables":
        """The tables of the warehouse that the resolved job names."""
        is_bigquery = (job.get("warehouse") or {}).get("kind") == "bigquery"
        return cls(warehouse, BigQueryDialect() if is_bigquery else Dialect())

    def quote(self, name: str) -> str:
        """A name in SQL."""
        return self.dialect.quote(name)

    def literal(self, value: str | float | int) -> str:
        """A value in SQL, a float to the last bit: a plain one would be a DECIMAL in DuckDB."""
        if isinstance(value, bool):
            return str(value).upper()
        if isinstance(value, float):
            return f"CAST('{float(value)!r}' AS {self.dialect.number})"
        return self.dialect.literal(value)

    def is_value(self, column: str, value: Value) -> str:
        """The condition that a column has this value, or is missing."""
        return f"{self.quote(column)} IS NULL" if value is None else f"{self.quote(column)} = {self.literal(value)}"

    def ranges(self, record: NightRecord, columns: Sequence[Column]) -> dict[str, tuple[float, float, float]]:
        """Lowest, highest and mean value of numeric columns; none of those without a value."""
        parts = [
            f"{function}({self.quote(column.name)}) AS {function.lower()}_{index}"
            for index, column in enumerate(columns)
            for function in ("MIN", "MAX", "AVG")
        ]
        if not parts:
            return {}
        (row,) = self.warehouse.query(f"SELECT {', '.join(parts)} FROM {self.quote(record.table)}").to_pylist()
        found = {
            column.name: (row[f"min_{index}"], row[f"max_{index}"], row[f"avg_{index}"])
            for index, column in enumerate(columns)
        }
        return {name: values for name, values in found.items() if _all_finite(values)}

    def histogram(self, record: NightRecord, column: str, low: float, high: float) -> list[int]:
        """Rows in each of `BINS` equal bins from low to high, which the last bin has too.

        Args:
            low: no higher than any value.
            high: no lower than any value, and above `low`.
        """
        above = f"{self.dialect.as_number(self.quote(column))} - {self.literal(low)}"
        scaled = f"FLOOR(({above}) / {self.literal((high - low) / BINS)})"
        rows = self.warehouse.query(
            f"SELECT LEAST(GREATEST({scaled}, 0), {BINS - 1}) AS bin, COUNT(*) AS row_count "
            f"FROM {self.quote(record.table)} WHERE {self.quote(column)} IS NOT NULL GROUP BY 1"
        ).to_pylist()
        counts = [0] * BINS
        for row in rows:
            counts[int(row["bin"])] = int(row["row_count"])
        return counts

    def values(self, record: NightRecord, column: str) -> list[tuple[Value, int]]:
        """The most frequent values of a column with their counts, at most `MOST_WORDS`."""
        rows = self.warehouse.query(
            f"SELECT {self.quote(column)} AS answer, COUNT(*) AS row_count FROM {self.quote(record.table)} "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MOST_WORDS}"
        ).to_pylist()
        return [(row["answer"], int(row["row_count"])) for row in rows]

    def line(
        self, record: NightRecord, columns: Sequence[str], outputs: Sequence[str], fixed: Mapping[str, Value], most: int
    ) -> list[dict[str, Any]]:
        """Rows where the other keys have the values in `fixed`, at most `most`."""
        names = ", ".join(self.quote(name) for name in (*columns, *outputs))
        where = " AND ".join(self.is_value(name, value) for name, value in fixed.items())
        condition = f" WHERE {where}" if where else ""
        return list(
            self.warehouse.query(f"SELECT {names} FROM {self.quote(record.table)}{condition} LIMIT {most}").to_pylist()
        )


def _all_finite(values: Sequence[float | None]) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
