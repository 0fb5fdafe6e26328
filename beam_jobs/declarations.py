"""What is wrong with a job file although its shape is right, as far as it shows without data: values of axes, and SQL.

Found before anything is read or trained: the plan, which would stumble on it, comes after hours of training.
"""

import functools
from collections.abc import Callable, Mapping

import pyarrow as pa

from configs.contract_agreement import declared_outputs
from configs.errors import JobError
from configs.job import DuckDBWarehouse, Job, TrainedJob
from configs.space import BucketsAxis, RangeAxis, RowsAxis, ValuesAxis, interval_columns
from transforms.columns import ARROW_TYPES
from transforms.space.axes import declared_values
from transforms.sql import evaluate_expression, referenced_columns

# Of outputs whose type the job file tells; the prediction table has the model's float32.
_OUTPUT_TYPES: dict[str, pa.DataType] = {**dict(ARROW_TYPES.items()), "float": pa.float32()}


def check_declarations(job: Job) -> None:
    """Checks the values of axes that are all in the job file, and parses the job's SQL.

    Raises:
        JobError: one problem a line.
    """
    problems: list[str] = []
    for name, axis in job.input_space.axes.items():
        if isinstance(axis, (ValuesAxis, RangeAxis)):
            problems += _problems(functools.partial(declared_values, name, axis, job.features[name]))
    if (exclude := job.input_space.exclude) is not None:
        problems += _problems(
            functools.partial(referenced_columns, exclude, space_columns(job)), "input_space.exclude: "
        )
    if isinstance(job, TrainedJob) and (expression := job.label.expression) is not None:
        problems += _problems(
            functools.partial(referenced_columns, expression, list(job.read_columns)), "label.expression: "
        )
    problems += _condition_problems(job)
    if problems:
        raise JobError(*problems)


def _condition_problems(job: Job) -> list[str]:
    """What is wrong with conditions of contracts; BigQuery's dialect is for BigQuery to judge, when it comes to it."""
    outputs = declared_outputs(job)
    if not isinstance(job.warehouse, DuckDBWarehouse) or not outputs.is_complete or outputs.unknown_start is not None:
        return []
    names = [name for axis in job.input_space.axes.values() if isinstance(axis, RowsAxis) for name in axis.keys]
    types: dict[str, pa.DataType | None] = dict.fromkeys(names) | _space_types(job)
    types |= {name: _OUTPUT_TYPES.get(output or "") for name, output in outputs.types.items()}
    problems: list[str] = []
    for name, contract in job.publish.contracts.items():
        if contract.where is not None:
            check = functools.partial(_bind_condition, contract.where, types)
            problems += _problems(check, f"publish.contracts.{name}.where: ")
    return problems


def _bind_condition(condition: str, types: Mapping[str, pa.DataType | None]) -> None:
    """Asks for the condition on a table without rows, as far as the types of its columns are known."""
    names = referenced_columns(condition, list(types))
    if all(types[name] is not None for name in names):
        known = pa.schema([(name, column_type) for name, column_type in types.items() if column_type is not None])
        evaluate_expression(condition, known.empty_table())


def _space_types(job: Job) -> dict[str, pa.DataType]:
    types = {name: ARROW_TYPES[feature.type] for name, feature in job.features.items()}
    for axis, spec in job.input_space.axes.items():
        if isinstance(spec, BucketsAxis):
            low, high, is_missing = interval_columns(axis)
            types |= {low: types[axis], high: types[axis], is_missing: pa.bool_()}
    return {name: types[name] for name in space_columns(job)}


def space_columns(job: Job) -> list[str]:
    """Columns of the input space that its condition may name."""
    columns: list[str] = []
    for axis, features in job.input_space.axis_columns(tuple(job.features)).items():
        is_intervals = isinstance(job.input_space.axes[axis], BucketsAxis)
        columns += interval_columns(axis) if is_intervals else features
    return columns


def _problems(check: Callable[[], object], where: str = "") -> tuple[str, ...]:
    try:
        check()
    except JobError as error:
        return tuple(f"{where}{problem}" for problem in error.problems)
    return ()
