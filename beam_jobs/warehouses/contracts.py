"""Contracts as SQL: how many rows of a night's table break each, and the worst of them.

Everything that looks at one row at a time is counted in one scan. A direction is judged by a window over the rows that
agree in everything else.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beam_jobs.warehouses.base import Cell, Column, Value
from beam_jobs.warehouses.contract_clauses import Clause, ClauseWriter
from beam_jobs.warehouses.dialects import Dialect
from configs.contracts import Contract

Ask = Callable[[str], list[dict[str, Any]]]
"""Runs one SELECT and gives its rows."""
SHOWN_ROWS = 3


@dataclasses.dataclass(frozen=True)
class ExampleRow:
    """A row that a check found, by its key, with the values that it found there."""

    key: Mapping[str, Value]
    found: Mapping[str, Cell]


@dataclasses.dataclass(frozen=True)
class Violations:
    """What a contract found of one output.

    Attributes:
        contract: its name.
        holds: one line on what should be so, such as `weight is between 1 and 16`.
        breaks: one line on what is not so.
        judged: rows.
        broken: rows among them that break it.
        worst: some of these, the worst first.
    """

    contract: str
    holds: str
    breaks: str
    judged: int
    broken: int
    worst: tuple[ExampleRow, ...] = ()


def count_violations(
    ask: Ask, dialect: Dialect, table: str, columns: Sequence[Column], contracts: Mapping[str, Contract]
) -> tuple[Violations, ...]:
    """Holds every row of a table against contracts.

    Args:
        table: SQL of its rows.
        columns: of the table.

    Returns:
        In the order of the contracts, an entry for each output that one names.

    Raises:
        JobError: a contract names an output that the table has not, or of the wrong type.
    """
    writer = ClauseWriter(dialect, table, columns)
    clauses = [clause for name, contract in contracts.items() for clause in writer.clauses(name, contract)]
    counted: dict[int, tuple[int, int]] = {}
    sources = dict.fromkeys(clause.source for clause in clauses)
    for source in sources:
        indices = [index for index, clause in enumerate(clauses) if clause.source == source]
        counts = ", ".join(
            f"COUNTIF({clauses[index].judged}) AS judged_{index}, "
            f"COUNTIF({clauses[index].judged} AND {clauses[index].broken}) AS broken_{index}"
            for index in indices
        )
        (row,) = ask(f"SELECT {counts} FROM {source} AS night")
        counted |= {index: (row[f"judged_{index}"], row[f"broken_{index}"]) for index in indices}
    violations = []
    for index, clause in enumerate(clauses):
        judged, broken = counted[index]
        worst = _worst_rows(ask, dialect, columns, clause) if broken else ()
        violations.append(Violations(clause.contract, clause.holds, clause.breaks, judged, broken, worst))
    return tuple(violations)


def _worst_rows(ask: Ask, dialect: Dialect, columns: Sequence[Column], clause: Clause) -> tuple[ExampleRow, ...]:
    keys = [column.name for column in columns if column.role == "key"]
    quoted = [dialect.quote(name) for name in keys]
    selected = [f"{name} AS key_{index}" for index, name in enumerate(quoted)]
    selected += [f"{shown} AS found_{index}" for index, shown in enumerate(clause.shown.values())]
    order = [f"{clause.excess} DESC"] if clause.excess else []
    order += [f"{name} NULLS LAST" for name in quoted]
    rows = ask(
        f"SELECT {', '.join(selected)} FROM {clause.source} AS night "
        f"WHERE {clause.judged} AND {clause.broken} ORDER BY {', '.join(order)} LIMIT {SHOWN_ROWS}"
    )
    return tuple(
        ExampleRow(
            {name: row[f"key_{index}"] for index, name in enumerate(keys)},
            {name: row[f"found_{index}"] for index, name in enumerate(clause.shown)},
        )
        for row in rows
    )
