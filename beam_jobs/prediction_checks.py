"""The predictions before readers see them: contracts, and what changes for readers, judged on the whole table.

What the warehouse counts becomes checks with names here; a failed one refuses the night unless a person accepted it.
"""

import dataclasses
import fractions
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from beam_jobs.warehouses.base import Cell, Night, NightRecord, Warehouse
from beam_jobs.warehouses.changes import (
    Changes,
    ComparedOutput,
    Comparison,
    Mover,
    common_outputs,
    why_incomparable,
)
from beam_jobs.warehouses.contracts import SHOWN_ROWS, ExampleRow, Violations
from configs.contract_agreement import DeclaredOutputs
from configs.contracts import (
    GONE_ROWS,
    NEW_ROWS,
    ChangeBudget,
    Contract,
    SumsToOneContract,
    changes_check,
)


@dataclasses.dataclass(frozen=True)
class PredictionCheck:
    """A contract on an output, or a budget of changes, and what came of it.

    Attributes:
        finding: one line.
        warning: one line on why it says nothing although it passed, such as a condition that no row meets.
        rows: that break the contract, or changed.
        of: rows that were judged.
        limit: fraction of these that may change; None of a contract, which no row may break.
        examples: some of the rows.
        accepted: the reason for which a person lets it fail.
    """

    name: str
    kind: Literal["contract", "changes"]
    passed: bool
    finding: str
    rows: int
    of: int
    limit: float | None = None
    examples: tuple[ExampleRow, ...] = ()
    accepted: str | None = None
    warning: str | None = None

    @property
    def refuses(self) -> bool:
        """Whether the night must not be shown."""
        return not self.passed and self.accepted is None

    @property
    def problem(self) -> str:
        """One line with the check, what is wrong in how many rows, and some of them."""
        shown = "; ".join(map(_example_text, self.examples))
        return f"check {self.name!r} failed: {self.finding}" + (f", first {shown}" if shown else "")


@dataclasses.dataclass(frozen=True)
class PredictionReport:
    """What was found of a night's predictions.

    Attributes:
        before: the night that they were compared with, if any.
        changes: None where nothing could be compared.
        note: why nothing, or not everything, was compared.
    """

    checks: tuple[PredictionCheck, ...]
    before: NightRecord | None
    comparison: Comparison | None
    changes: Changes | None
    note: str | None

    @property
    def refusals(self) -> tuple[PredictionCheck, ...]:
        """Checks that failed and that nobody accepted."""
        return tuple(check for check in self.checks if check.refuses)

    @property
    def accepted(self) -> dict[str, str]:
        """Checks that failed and that a person accepted, with the reason."""
        return {check.name: check.accepted for check in self.checks if not check.passed and check.accepted is not None}


def check_predictions(
    warehouse: Warehouse,
    night: Night,
    contracts: Mapping[str, Contract],
    budget: ChangeBudget,
    outputs: DeclaredOutputs,
    classes: Sequence[str],
    slices: Sequence[tuple[str, ...]],
) -> PredictionReport:
    """Holds a loaded and verified table against its contracts and its budget of changes.

    Args:
        outputs: of the model, which say what columns belong together.
        classes: outputs of numbers that are classes.
        slices: each some key columns.

    Raises:
        JobError: a contract does not fit the table.
    """
    contracts = {name: _resolved(contract, outputs) for name, contract in contracts.items()}
    checks = list(_contract_checks(warehouse.check_contracts(night, contracts))) if contracts else []
    before = warehouse.before(night)
    comparison, note = _comparison(night, before, budget, outputs, classes, slices)
    changes = None
    if before is not None and comparison is not None:
        changes = warehouse.compare(night, before, comparison)
        checks += _budget_checks(changes, comparison, budget)
    if before is not None:
        checks += _unjudged_checks(night, before, comparison, budget, outputs, classes)
    judged = tuple(
        check if check.passed else dataclasses.replace(check, accepted=night.accepted.get(check.name))
        for check in checks
    )
    return PredictionReport(judged, before, comparison, changes, note)


def check_names(contracts: Mapping[str, Contract], outputs: Sequence[str]) -> list[str]:
    """Names of all the checks that a person may accept.

    Args:
        outputs: of the model, by name.
    """
    return ["schema", *contracts, *map(changes_check, outputs), NEW_ROWS, GONE_ROWS]


def _resolved(contract: Contract, outputs: DeclaredOutputs) -> Contract:
    """The contract on columns, where it names an output that has several."""
    if not isinstance(contract, SumsToOneContract):
        return contract
    columns = [column for name in contract.sums_to_one for column in outputs.groups.get(name, (name,))]
    return contract.model_copy(update={"sums_to_one": tuple(columns)})


def _contract_checks(violations: Sequence[Violations]) -> Iterator[PredictionCheck]:
    for found in violations:
        rows = f"{found.broken:,} of {found.judged:,} rows" if found.broken else f"{found.judged:,} rows"
        yield PredictionCheck(
            name=found.contract,
            kind="contract",
            passed=not found.broken,
            finding=f"{found.breaks if found.broken else found.holds} in {rows}",
            rows=found.broken,
            of=found.judged,
            examples=found.worst,
            warning=None if found.judged else "no row of the table is judged by it: look at its condition (where)",
        )


def _comparison(
    night: Night,
    before: NightRecord | None,
    budget: ChangeBudget,
    outputs: DeclaredOutputs,
    classes: Sequence[str],
    slices: Sequence[tuple[str, ...]],
) -> tuple[Comparison | None, str | None]:
    """What to ask of the two nights, and a line on what cannot be asked."""
    if before is None:
        return None, "there is no night to compare with"
    if why := why_incomparable(night.columns, before.columns):
        return None, f"no row has the same key: {why}"
    columns = common_outputs(night.columns, before.columns)
    names = [column.name for column in columns]
    grouped = {name: tuple(column for column in members if column in names) for name, members in outputs.groups.items()}
    together = {column for members in grouped.values() for column in members}
    compared: dict[str, tuple[str, ...]] = {name: (name,) for name in names if name not in together}
    compared |= {name: members for name, members in grouped.items() if members}
    text = {column.name for column in columns if column.type.startswith("string")}
    asked = tuple(
        ComparedOutput(name, members, budget.threshold_of(name), name in classes or not text.isdisjoint(members))
        for name, members in compared.items()
    )
    left_out = [column.name for column in night.columns if column.role == "output" and column.name not in names]
    note = f"not compared, for they are new or of another type: {', '.join(left_out)}" if left_out else None
    return Comparison(asked, tuple(slices)), note


def _budget_checks(changes: Changes, comparison: Comparison, budget: ChangeBudget) -> Iterator[PredictionCheck]:
    overall = changes.overall
    for output in comparison.outputs:
        limit = budget.limit_of(output.name, output.is_class)
        if limit is not None and not overall.common:
            yield from _unjudged_check(changes_check(output.name), output.name, limit, "no row has the same key")
        elif limit is not None:
            is_any = output.is_class or output.threshold == 0
            what = "is another" if is_any else f"moved by more than {output.threshold:g}"
            changed = overall.outputs[output.name].changed
            movers = changes.movers[output.name][: min(changed, SHOWN_ROWS)]
            examples = tuple(ExampleRow(mover.key, _moved(mover, output)) for mover in movers)
            name = changes_check(output.name)
            yield _budget_check(name, f"{output.name} {what}", changed, overall.common, limit, examples)
    for name, what, rows, of, limit, keys in (
        (NEW_ROWS, "not there before", overall.new, overall.common + overall.new, budget.max_new, changes.new_keys),
        (
            GONE_ROWS,
            "not there any more",
            overall.gone,
            overall.common + overall.gone,
            budget.max_gone,
            changes.gone_keys,
        ),
    ):
        if limit is not None:
            yield _budget_check(name, what, rows, of, limit, tuple(ExampleRow(key, {}) for key in keys))


def _unjudged_checks(
    night: Night,
    before: NightRecord,
    comparison: Comparison | None,
    budget: ChangeBudget,
    outputs: DeclaredOutputs,
    classes: Sequence[str],
) -> Iterator[PredictionCheck]:
    """Of limits that nothing can be held against: a budget that nobody could judge is not kept."""
    judged = {column for output in comparison.outputs for column in output.columns} if comparison is not None else set()
    earlier = {column.name for column in before.columns if column.role == "output"}
    types = {column.name: column.type for column in night.columns if column.role == "output"}
    is_one_gone = bool(earlier - set(types))  # an output that is new may be that one under another name
    why = "the night before has it in another type, or under another name"
    if other_keys := why_incomparable(night.columns, before.columns):
        why = f"no row has the same key: {other_keys}"
    together = {column for members in outputs.groups.values() for column in members}
    for name, columns in ({name: (name,) for name in types if name not in together} | dict(outputs.groups)).items():
        was_there = not earlier.isdisjoint(columns)
        if columns and judged.isdisjoint(columns) and (was_there or is_one_gone or other_keys):
            is_class = name in classes or any(types.get(column, "").startswith("string") for column in columns)
            yield from _unjudged_check(changes_check(name), name, budget.limit_of(name, is_class), why)
    if other_keys:
        yield from _unjudged_check(NEW_ROWS, "what is new", budget.max_new, why)
        yield from _unjudged_check(GONE_ROWS, "what is gone", budget.max_gone, why)


def _unjudged_check(name: str, what: str, limit: float | None, why: str) -> Iterator[PredictionCheck]:
    if limit is not None and limit < 1:  # a limit of 1 allows whatever there is
        finding = f"{what} cannot be compared, and at most {100 * limit:.3g} % may change: {why}"
        yield PredictionCheck(name, "changes", False, finding, 0, 0, limit)


def _budget_check(
    name: str, what: str, rows: int, of: int, limit: float, examples: tuple[ExampleRow, ...]
) -> PredictionCheck:
    passed = rows <= fractions.Fraction(repr(limit)) * of  # 0.29 of 100 rows are 29, in floats 28.999…
    fraction = rows / of if of else 0.0
    finding = f"{what} in {rows:,} of {of:,} rows ({100 * fraction:.3g} %, at most {100 * limit:.3g} %)"
    return PredictionCheck(name, "changes", passed, finding, rows, of, limit, () if passed else examples)


def _moved(mover: Mover, output: ComparedOutput) -> dict[str, Cell]:
    moved: dict[str, Cell] = {}
    for column in output.columns:
        if mover.before[column] != mover.now[column]:
            moved |= {f"{column} before": mover.before[column], f"{column} now": mover.now[column]}
    return moved


def _example_text(example: ExampleRow) -> str:
    key = " ".join(f"{name}={'NULL' if value is None else repr(value)}" for name, value in example.key.items())
    found = " ".join(f"{name}={_value_text(value)}" for name, value in example.found.items())
    return f"{key}: {found}" if found else key


def _value_text(value: Cell) -> str:
    if value is None:
        return "NULL"
    return f"{value:.7g}" if isinstance(value, float) else repr(value)
