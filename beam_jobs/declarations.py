"""What is wrong with a job file although its shape is right, as far as it shows without data: values of axes, and SQL.

Found before anything is read or trained: the plan, which would stumble on it, comes after hours of training.
"""

import functools
from collections.abc import Callable

from configs.contract_agreement import declared_outputs
from configs.errors import JobError
from configs.job import DuckDBWarehouse, Job, TrainedJob
from configs.space import BucketsAxis, RangeAxis, RowsAxis, ValuesAxis, interval_columns
from transforms.space.axes import declared_values
from transforms.sql import referenced_columns


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
    columns = [*names, *space_columns(job), *outputs.types]
    problems: list[str] = []
    for name, contract in job.publish.contracts.items():
        if contract.where is not None:
            check = functools.partial(referenced_columns, contract.where, columns)
            problems += _problems(check, f"publish.contracts.{name}.where: ")
    return problems


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
