"""Contracts as SQL conditions: what a broken row is, by how much, and which values show it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beam_jobs.warehouses.base import Column
from beam_jobs.warehouses.dialects import Dialect
from configs.contracts import (
    AllowedValuesContract,
    Contract,
    MonotoneContract,
    NotNullContract,
    RangeContract,
    SumsToOneContract,
)
from configs.errors import JobError
from configs.space import interval_columns

_EARLIER = "_earlier"  # no feature's name begins so


@dataclasses.dataclass(frozen=True)
class Clause:
    """What a contract says of one output, in SQL.

    Attributes:
        contract: its name.
        holds: one line on what should be so.
        breaks: one line on what is not so.
        source: the rows: the table's, or some of them with what comes before each.
        judged: condition over them.
        broken: condition over those that are judged; never NULL.
        excess: by how much a row is beyond; None where there is no more or less.
        shown: expressions by the names under which a broken row has them.
    """

    contract: str
    holds: str
    breaks: str
    source: str
    judged: str
    broken: str
    excess: str | None
    shown: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class ClauseWriter:
    """Writes contracts on a table's columns in a dialect.

    Attributes:
        table: SQL of its rows.
        columns: of the table.
    """

    dialect: Dialect
    table: str
    columns: Sequence[Column]

    def clauses(self, name: str, contract: Contract) -> Iterator[Clause]:
        """The clauses of one contract: one for each output that it names.

        Raises:
            JobError: the table has no such output, or of the wrong type.
        """
        if isinstance(contract, RangeContract):
            for output, bounds in contract.range.items():
                yield self._range(name, contract, self._numbers(name, output), *bounds)
        elif isinstance(contract, NotNullContract):
            for output in contract.not_null:
                quoted = self.dialect.quote(self._output(name, output).name)
                yield self._clause(name, contract, output, "is never NULL", "is NULL", f"{quoted} IS NULL")
        elif isinstance(contract, AllowedValuesContract):
            for output, values in contract.allowed_values.items():
                yield self._allowed_values(name, contract, self._scalar(name, output), values)
        elif isinstance(contract, SumsToOneContract):
            yield self._sum(name, contract)
        elif isinstance(contract, MonotoneContract):
            for output, direction in contract.monotone.outputs.items():
                yield self._monotone(name, contract, self._scalar(name, output), direction == "increasing")

    def _range(
        self, name: str, contract: RangeContract, output: Column, low: float | None, high: float | None
    ) -> Clause:
        rule = (
            f"at most {high:g}" if low is None else f"at least {low:g}" if high is None else f"in [{low:g}, {high:g}]"
        )
        low, high = (None if bound is None else _as_in_table(bound, output) for bound in (low, high))
        lowest = highest = self.dialect.quote(output.name)
        if output.type.endswith("[]"):
            lowest, highest = self.dialect.lowest(lowest), self.dialect.highest(highest)
        beyond = [] if low is None else [f"{self.dialect.literal(low)} - {self.dialect.as_number(lowest)}"]
        beyond += [] if high is None else [f"{self.dialect.as_number(highest)} - {self.dialect.literal(high)}"]
        excess = beyond[0] if len(beyond) == 1 else f"GREATEST({', '.join(beyond)})"
        return self._clause(name, contract, output.name, f"is {rule}", f"is not {rule}", f"{excess} > 0", excess=excess)

    def _allowed_values(
        self, name: str, contract: AllowedValuesContract, output: Column, values: Sequence[str | float | int]
    ) -> Clause:
        is_text = output.type == "string"
        if any(isinstance(value, str) != is_text for value in values):
            raise JobError(f"publish.contracts.{name}: {output.name!r}: expected values of its type, {output.type}")
        quoted = self.dialect.quote(output.name)
        found = quoted if is_text else self.dialect.as_number(quoted)
        listed = ", ".join(
            self.dialect.literal(value if isinstance(value, str) else _as_in_table(value, output)) for value in values
        )
        rule = f"among {', '.join(map(str, values))}"
        return self._clause(name, contract, output.name, f"is {rule}", f"is not {rule}", f"{found} NOT IN ({listed})")

    def _sum(self, name: str, contract: SumsToOneContract) -> Clause:
        columns = [self._numbers(name, output) for output in contract.sums_to_one]
        terms = [
            self.dialect.total(self.dialect.quote(column.name))
            if column.type.endswith("[]")
            else self.dialect.as_number(self.dialect.quote(column.name))
            for column in columns
        ]
        total = " + ".join(terms)
        excess, listed = f"ABS({total} - 1)", _listed(contract.sums_to_one)
        broken = f"{excess} > {self.dialect.literal(contract.tolerance)}"
        found = {"sum": total}
        return self._clause(
            name, contract, listed, "sums to 1", "does not sum to 1", broken, excess=excess, shown=found
        )

    def _monotone(self, name: str, contract: MonotoneContract, output: Column, is_increasing: bool) -> Clause:
        monotone, dialect = contract.monotone, self.dialect
        order, missing = self._order(name, monotone.in_)
        along = {monotone.in_, *interval_columns(monotone.in_)}
        others = [column for column in self.columns if column.role == "key" and column.name not in along]
        partition = ", ".join(dialect.partition_key(dialect.quote(column.name), column.type) for column in others)
        value = dialect.as_number(dialect.quote(output.name))
        extreme = "MAX" if is_increasing else "MIN"
        before = (
            f"{extreme}({value}) OVER ({f'PARTITION BY {partition} ' if partition else ''}"
            f"ORDER BY {dialect.quote(order)} ASC NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        )
        source = (
            f"(SELECT *, {before} AS {_EARLIER} FROM {self.table} AS night "
            f"WHERE {_condition(contract.where)} AND NOT {missing})"
        )
        behind = f"{_EARLIER} - {value}" if is_increasing else f"{value} - {_EARLIER}"
        is_behind = dialect.exceeds(behind, monotone.eps, output.type, value, _EARLIER)
        broken = f"{behind} >= 0" if monotone.strict else is_behind
        way = f"{'strictly ' if monotone.strict else ''}{'increasing' if is_increasing else 'decreasing'}"
        rule = f"{way} in {monotone.in_}"
        clause = self._clause(name, contract, output.name, f"is {rule}", f"is not {rule}", broken, excess=behind)
        shown = {**clause.shown, "earlier": _EARLIER}
        return dataclasses.replace(clause, source=source, judged="TRUE", shown=shown)

    def _order(self, name: str, feature: str) -> tuple[str, str]:
        """The key column that orders a feature's values, and the condition that it is missing."""
        keys = {column.name: column for column in self.columns if column.role == "key"}
        low, _, is_missing = interval_columns(feature)
        if low in keys:
            return low, self.dialect.quote(is_missing) if is_missing in keys else "FALSE"
        if feature not in keys:
            raise JobError(f"publish.contracts.{name}: {feature!r}: expected a key column ({', '.join(keys)})")
        return feature, f"({self.dialect.quote(feature)} IS NULL)"

    def _clause(
        self,
        name: str,
        contract: Any,
        subject: str,
        holds: str,
        breaks: str,
        broken: str,
        excess: str | None = None,
        shown: Mapping[str, str] | None = None,
    ) -> Clause:
        return Clause(
            contract=name,
            holds=f"{subject} {holds}",
            breaks=f"{subject} {breaks}",
            source=self.table,
            judged=_condition(contract.where),
            broken=f"COALESCE({broken}, FALSE)",
            excess=excess,
            shown=shown or {subject: self.dialect.quote(subject)},
        )

    def _output(self, name: str, output: str) -> Column:
        outputs = {column.name: column for column in self.columns if column.role == "output"}
        if output not in outputs:
            raise JobError(f"publish.contracts.{name}: {output!r}: expected an output ({', '.join(outputs)})")
        return outputs[output]

    def _numbers(self, name: str, output: str) -> Column:
        column = self._output(name, output)
        if column.type.startswith("string"):
            raise JobError(f"publish.contracts.{name}: {output!r}: expected numbers, the output is {column.type}")
        return column

    def _scalar(self, name: str, output: str) -> Column:
        column = self._output(name, output)
        if column.type.endswith("[]"):
            raise JobError(f"publish.contracts.{name}: {output!r}: expected one value a row, the output is an array")
        return column


def _as_in_table(number: float, output: Column) -> float:
    """A number as the table has it: 0.1 is a little more in float32, and is still what the job file means by 0.1."""
    return float(np.float32(number)) if output.type.startswith("float") else number


def _condition(where: str | None) -> str:
    # The line breaks keep a comment at its end from swallowing the rest.
    return "TRUE" if where is None else f"COALESCE((\n{where}\n), FALSE)"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} + … + {names[-1]}"
