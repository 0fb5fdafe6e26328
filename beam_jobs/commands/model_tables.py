"""What the commands about model versions and the endpoint print for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.commands.tables import HEADLINE_METRICS, columns_table, print_things
from configs.job import Job

_MOST_METRICS = 3
_METRICS = (*HEADLINE_METRICS, "r2")


def print_models(job: Job, models: Sequence[Mapping[str, Any]]) -> None:
    """The versions, newest first, with the one that the table comes from marked."""
    if not models:
        print_things(f"no model of {job.name} has been trained")
        return
    shown = [name for name in _METRICS if any(name in model["metrics"] for model in models)][:_MOST_METRICS]
    table = columns_table(
        "", "version", "run date", "model", "blessed", *shown, "aliases", "run", numeric=("version", *shown)
    )
    for model in models:
        table.add_row(
            "*" if model["is_published"] else "",
            model["version"] or "not registered",
            model["run_date"],
            model["model_version"],
            {True: "yes", False: "no", None: ""}[model["blessed"]],
            *(_number(model["metrics"].get(name)) for name in shown),
            " ".join(model["aliases"]),
            model["run_id"],
        )
    print_things(table, f"* is the model whose predictions {job.name}_predictions shows")


def print_deployed(deployed: Sequence[Mapping[str, Any]]) -> None:
    """What is on the endpoint."""
    table = columns_table("version", "model", "traffic", "machines", numeric=("version", "traffic"))
    for each in deployed:
        machines = f"{each['min_replica_count']} x {each['machine_type']}"
        table.add_row(each["version"], each["model_version"] or "", f"{each['traffic']} %", machines)
    print_things(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
