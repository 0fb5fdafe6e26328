"""What commands print about Vertex AI for a person."""

from collections.abc import Mapping
from typing import Any

from beam_jobs.commands.tables import columns_table, print_things, seconds_text, value_text


def print_sizing(sizing: Mapping[str, Any]) -> None:
    """Replicas and minutes of batch prediction, the configured number first, and what is warned of."""
    jobs = f"{sizing['jobs']} job{'' if sizing['jobs'] == 1 else 's'}"
    print_things(
        "",
        f"on Vertex AI: {sizing['instances']:,} distinct instances, {sizing['batches']:,} batches of at most"
        f" {sizing['batch_size']:,} in {jobs}; the signature takes {sizing['batch_seconds'] * 1000:.3g} ms a batch on"
        " this machine (JSON and HTTP come on top)",
    )
    numbers = ("replicas", "work", "machine hours")
    table = columns_table(*numbers, "", numeric=numbers)
    for index, choice in enumerate(sizing["choices"]):
        low, high = choice["machine_hours"]
        notes = ["as configured"] if index == 0 else []
        notes += ["as Google advises"] if choice["replicas"] == sizing["advised_replicas"] else []
        work = seconds_text(60 * choice["minutes"])
        table.add_row(f"{choice['replicas']:,}", work, f"{low:.3g} to {high:.3g}", ", ".join(notes))
    print_things(table)
    low, high = sizing["startup_minutes"]
    print_things(
        f"before the work come {low} to {high} minutes of start; machine hours are of {sizing['machine_type']}, all"
        " replicas together, start included"
    )
    for warning in sizing["warnings"]:
        print_things(f"  - {warning}")


def print_parity(parity: Mapping[str, Any]) -> None:
    """The largest difference of each output's column, and the point where it is."""
    numbers = ("unequal rows", "absolute", "relative", "ulp")
    table = columns_table("output", "type", *numbers, "in the pipeline", "on Vertex AI", numeric=numbers)
    for column in parity["columns"]:
        ulp = "" if column["ulp"] is None else f"{column['ulp']:,}"
        largest = ("" if column[name] is None else f"{column[name]:.3g}" for name in ("absolute", "relative"))
        values = (exact_text(column[name]) for name in ("one", "other"))
        table.add_row(column["column"], column["type"], f"{column['unequal']:,}", *largest, ulp, *values)
    print_things(table, "")
    for column in parity["columns"]:
        if column["point"] is not None:
            key = ", ".join(f"{name}={value_text(value)}" for name, value in column["point"].items())
            print_things(f"{column['column']} is furthest apart at {key}")
    if parity["repeated"]:
        print_things(f"{parity['repeated']:,} predictions came twice from Vertex AI")
    points = f"{parity['points']:,} points (seed {parity['seed']}), model {parity['model_version']}"
    verdict = "the same" if parity["holds"] else "NOT the same"
    print_things(f"{points}: {verdict} within {parity['tolerance']:g} relative")


def exact_text(value: Any) -> str:
    """A value with all the digits that tell it from its neighbours."""
    if value is None:
        return ""
    if isinstance(value, list):
        return f"[{', '.join(map(exact_text, value))}]"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
