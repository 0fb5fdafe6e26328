"""What DuckDB and BigQuery write differently in the SQL that we generate; the rest of it is the same for both."""

from collections.abc import Sequence

from configs.outputs import TableType

PERCENTS = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""Of the quantiles that are told of a change; the first is the lowest value and the last the highest."""


class Dialect:
    """DuckDB's dialect, and what BigQuery's has in common with it.

    Attributes:
        number: type to reckon in, and of a key's float.
        single: type of an output's float.
        whole: type of an integer.
        text: type of a string.
    """

    number = "DOUBLE"
    single = "FLOAT"
    whole = "BIGINT"
    text = "VARCHAR"

    def quote(self, name: str) -> str:
        """An identifier."""
        return '"' + name.replace('"', '""') + '"'

    def literal(self, value: str | float | int) -> str:
        """A string or a number."""
        if isinstance(value, str):
            return self._string(value)
        return repr(value) if abs(value) < float("inf") else f"CAST('{value!r}' AS {self.number})"

    def null(self, column_type: TableType, is_output: bool) -> str:
        """NULL as a column of the table has it."""
        value = column_type.removesuffix("[]")
        name = {"string": self.text, "int": self.whole, "bool": "BOOLEAN"}.get(value)
        name = name or (self.single if is_output else self.number)
        return f"CAST(NULL AS {self._array(name) if column_type.endswith('[]') else name})"

    def as_number(self, expression: str) -> str:
        """A number to reckon with, of a float32 exactly."""
        return f"CAST({expression} AS {self.number})"

    def same_key(self, left: str, right: str, column_type: TableType) -> str:
        """Condition of a join, full joins among them: both values are equal, or both are missing."""
        del column_type
        return f"{left} IS NOT DISTINCT FROM {right}"

    def differs(self, left: str, right: str, column_type: TableType) -> str:
        """Condition: one value is another than the other; true or false, never NULL."""
        del column_type
        return f"{left} IS DISTINCT FROM {right}"

    def exceeds(self, size: str, limit: float, column_type: TableType, *numbers: str) -> str:
        """Condition: a size is over a limit, by more than the numbers of float32 that it was reckoned of are rounded.

        A limit of 0 is exact: it tells whether anything is there at all.
        """
        if not limit or not column_type.startswith("float"):
            return f"{size} > {self.literal(limit)}"
        rounding = " + ".join(f"ABS({number})" for number in numbers)
        return f"{size} > {self.literal(limit)} + ({rounding}) * {self.literal(2.0**-24)}"

    def partition_key(self, expression: str, column_type: TableType) -> str:
        """A key column to partition a window by."""
        del column_type
        return expression

    def quantiles(self, expression: str) -> str:
        """Aggregate: an array that `picked_quantiles` reads."""
        return f"quantile_disc({expression}, [{', '.join(str(percent / 100) for percent in PERCENTS)}])"

    def picked_quantiles(self, found: Sequence[float]) -> list[float]:
        """The quantiles at `PERCENTS` of what `quantiles` gave."""
        return list(found)

    def lowest(self, array: str) -> str:
        """The lowest number of an array."""
        return f"list_min({array})"

    def highest(self, array: str) -> str:
        """The highest number of an array."""
        return f"list_max({array})"

    def total(self, array: str) -> str:
        """The sum of an array."""
        return f"list_sum(list_transform({array}, lambda x: {self.as_number('x')}))"

    def distance(self, left: str, right: str) -> str:
        """The largest difference between two arrays of numbers at one place; infinite if one is longer."""
        largest = (
            f"list_max(list_transform(list_zip({left}, {right}), "
            f"lambda x: abs({self.as_number('x[1]')} - {self.as_number('x[2]')})))"
        )
        return f"CASE WHEN len({left}) = len({right}) THEN coalesce({largest}, 0) ELSE {self.literal(float('inf'))} END"

    def _array(self, value: str) -> str:
        return f"{value}[]"

    def _string(self, text: str) -> str:
        return "'" + text.replace("'", "''") + "'"


class BigQueryDialect(Dialect):
    """GoogleSQL, where it differs."""

    number = single = "FLOAT64"
    whole = "INT64"
    text = "STRING"

    def quote(self, name: str) -> str:
        """An identifier."""
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def same_key(self, left: str, right: str, column_type: TableType) -> str:
        """Equalities alone: a full join takes no other condition, and every join by hash needs one."""
        stand_in = {"string": "''", "bool": "FALSE"}.get(column_type, "0")
        return f"IFNULL({left}, {stand_in}) = IFNULL({right}, {stand_in}) AND ({left} IS NULL) = ({right} IS NULL)"

    def differs(self, left: str, right: str, column_type: TableType) -> str:
        """Arrays have no comparison of their own."""
        if column_type.endswith("[]"):
            return f"TO_JSON_STRING({left}) != TO_JSON_STRING({right})"
        return f"{left} IS DISTINCT FROM {right}"

    def partition_key(self, expression: str, column_type: TableType) -> str:
        """A float partitions by its text, because it may not itself; the text of a FLOAT64 tells any two apart."""
        return f"CAST({expression} AS STRING)" if column_type == "float" else expression

    def quantiles(self, expression: str) -> str:
        """Aggregate: all percentiles, approximately."""
        return f"APPROX_QUANTILES({expression}, 100)"

    def picked_quantiles(self, found: Sequence[float]) -> list[float]:
        """The quantiles at `PERCENTS`."""
        return [found[percent] for percent in PERCENTS]

    def lowest(self, array: str) -> str:
        """The lowest number of an array."""
        return f"(SELECT MIN(x) FROM UNNEST({array}) AS x)"

    def highest(self, array: str) -> str:
        """The highest number of an array."""
        return f"(SELECT MAX(x) FROM UNNEST({array}) AS x)"

    def total(self, array: str) -> str:
        """The sum of an array."""
        return f"(SELECT SUM({self.as_number('x')}) FROM UNNEST({array}) AS x)"

    def distance(self, left: str, right: str) -> str:
        """The largest difference between two arrays of numbers at one place; infinite if one is longer."""
        difference = f"ABS({self.as_number('x')} - {self.as_number('y')})"
        pairs = f"UNNEST({left}) AS x WITH OFFSET AS i JOIN UNNEST({right}) AS y WITH OFFSET AS j ON i = j"
        largest = f"(SELECT IFNULL(MAX({difference}), 0) FROM {pairs})"
        unequal = self.literal(float("inf"))
        return f"IF(ARRAY_LENGTH({left}) = ARRAY_LENGTH({right}), {largest}, {unequal})"

    def _array(self, value: str) -> str:
        return f"ARRAY<{value}>"

    def _string(self, text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
        return f"'{escaped}'"
