"""Whether contracts and the change budget name outputs and axes that the job has, as far as its file tells."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from configs.contracts import (
    GONE_ROWS,
    NEW_ROWS,
    TABLE_CHECKS,
    AllowedValuesContract,
    Contract,
    Monotone,
    MonotoneContract,
    NotNullContract,
    RangeContract,
    SumsToOneContract,
)
from configs.modeling import ForeignModel, Multiclass
from configs.outputs import class_columns, model_outputs
from configs.space import BucketsAxis, RangeAxis, ValuesAxis

if TYPE_CHECKING:
    from configs.job import Job

Problem = tuple[tuple[str | int, ...], Any, str]


@dataclasses.dataclass(frozen=True)
class DeclaredOutputs:
    """Columns of the prediction table that are the model's, as far as they are known.

    Attributes:
        types: by column; None where only the model knows it.
        groups: columns of each output that has several, one for each class.
        unknown_start: columns that start so are numbers, of classes that only the examples know.
        is_complete: no other column is possible.
    """

    types: Mapping[str, str | None]
    groups: Mapping[str, tuple[str, ...]]
    unknown_start: str | None = None
    is_complete: bool = True

    def type_of(self, column: str) -> str | None:
        """A column's type, None where it is not known."""
        return "float" if self._may_be_a_class(column) else self.types.get(column)

    def has(self, column: str) -> bool:
        """Whether the column exists, or may exist."""
        return column in self.types or not self.is_complete or self._may_be_a_class(column)

    def _may_be_a_class(self, column: str) -> bool:
        return self.unknown_start is not None and column.startswith(self.unknown_start)


def declared_outputs(job: "Job", classes: tuple[str, ...] | None = None) -> DeclaredOutputs:
    """Outputs of the job's model.

    Args:
        classes: of a multiclass task that does not declare its own, once a model has been trained.
    """
    from configs.job import ForeignJob, TrainedJob  # which imports this module

    if isinstance(job, ForeignJob):
        return _foreign_outputs(job.model)
    assert isinstance(job, TrainedJob), job.name
    name, task = job.label.name, job.task
    classes = classes or (task.classes if isinstance(task, Multiclass) else None)
    if isinstance(task, Multiclass) and classes is None:
        return DeclaredOutputs({name: "string"}, {f"{name}_probabilities": ()}, unknown_start=f"{name}_probability_")
    outputs = model_outputs(job.label, task, classes)
    types = {column: output.type for output in outputs for column in output.columns}
    return DeclaredOutputs(types, {output.name: output.columns for output in outputs if len(output.columns) > 1})


def _foreign_outputs(model: ForeignModel) -> DeclaredOutputs:
    types: dict[str, str | None] = {}
    groups = {}
    for name, output in model.outputs.items():
        column = output.column or name
        if output.classes is None:
            types[column] = None  # a number, or an array of them: the model's signature says which
        else:
            groups[name] = class_columns(column, output.classes)
            types |= dict.fromkeys(groups[name], output.type)
    return DeclaredOutputs(types, groups, is_complete=bool(model.outputs))


def contract_problems(job: "Job") -> Iterator[Problem]:
    """What does not fit between the contracts, the outputs and the axes."""
    outputs = declared_outputs(job)
    for name, contract in job.publish.contracts.items():
        path = ("publish", "contracts", name)
        if name in (*TABLE_CHECKS, NEW_ROWS, GONE_ROWS):
            yield path, name, "expected another name: a check of every table has this one"
        yield from _contract_problems(path, contract, outputs)
        if isinstance(contract, MonotoneContract):
            yield from _direction_problems((*path, "monotone", "in"), contract.monotone, job)
    for name in job.publish.changes.outputs:
        if name not in outputs.groups:
            yield from _column_problems(("publish", "changes", "outputs", name), name, outputs)


def _contract_problems(path: tuple[str, ...], contract: Contract, outputs: DeclaredOutputs) -> Iterator[Problem]:
    if isinstance(contract, RangeContract):
        for column in contract.range:
            yield from _number_problems((*path, "range", column), column, outputs)
    elif isinstance(contract, MonotoneContract):
        for column in contract.monotone.outputs:
            yield from _number_problems((*path, "monotone", column), column, outputs)
    elif isinstance(contract, NotNullContract):
        for column in contract.not_null:
            yield from _column_problems((*path, "not_null"), column, outputs)
    elif isinstance(contract, SumsToOneContract):
        for column in contract.sums_to_one:
            if column not in outputs.groups:
                yield from _number_problems((*path, "sums_to_one"), column, outputs)
    elif isinstance(contract, AllowedValuesContract):
        for column, values in contract.allowed_values.items():
            yield from _value_problems((*path, "allowed_values", column), column, values, outputs)


def _column_problems(path: tuple[str, ...], column: str, outputs: DeclaredOutputs) -> Iterator[Problem]:
    if not outputs.has(column):
        known = [*outputs.types, *outputs.groups]
        near = difflib.get_close_matches(column, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
        yield path, column, f"expected an output{hint}"


def _number_problems(path: tuple[str, ...], column: str, outputs: DeclaredOutputs) -> Iterator[Problem]:
    yield from _column_problems(path, column, outputs)
    if outputs.type_of(column) == "string":
        yield path, column, "expected an output of numbers, not of text; allowed_values lists text"


def _value_problems(
    path: tuple[str, ...], column: str, values: tuple[Any, ...], outputs: DeclaredOutputs
) -> Iterator[Problem]:
    yield from _column_problems(path, column, outputs)
    column_type = outputs.type_of(column)
    for value in values:
        if column_type is not None and (column_type == "string") != isinstance(value, str):
            yield path, value, f"expected values of the output's type, {column_type}"
            return


def _direction_problems(path: tuple[str, ...], monotone: Monotone, job: "Job") -> Iterator[Problem]:
    axis = job.input_space.axes.get(monotone.in_)
    if monotone.in_ not in job.features:
        near = difflib.get_close_matches(monotone.in_, job.features, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(job.features)})"
        yield path, monotone.in_, f"expected a feature{hint}"
    elif job.features[monotone.in_].type == "string":
        yield path, monotone.in_, "expected a feature of numbers, not of text"
    elif not isinstance(axis, ValuesAxis | RangeAxis | BucketsAxis):
        yield path, monotone.in_, "expected a feature with a values, range or buckets axis of its own"
