"""What `foretable run --dry-run` prints for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.commands.tables import bytes_text, columns_table, pairs_table, print_things, seconds_text


def print_forecast(tree: Mapping[str, Any]) -> None:
    """What would be read, which stages would run, what would be written, and the range of prices."""
    print_things(f"{tree['job']} for {tree['run_date']}, run {tree['run_id']} in {tree['run_dir']}: nothing is run", "")
    reads = columns_table("reads", "kind", "files", "rows", "bytes", "query reads", numeric=("files", "rows", "bytes"))
    for read in tree["reads"]:
        queried = bytes_text(read["queried_bytes"]) if read["queried_bytes"] else ""
        size = "?" if read["bytes"] is None else bytes_text(read["bytes"])
        reads.add_row(read["name"], read["kind"], _count(read["files"], ""), _count(read["rows"]), size, queried)
    stages = columns_table("stage", "", "why", "jobs elsewhere")
    for stage in tree["stages"]:
        stages.add_row(stage["stage"], stage["action"], stage["why"], _jobs_elsewhere(stage, tree["vertex"]))
    print_things(reads, "", stages, "", pairs_table(_totals(tree)))
    _print_price(tree["price"])


def _jobs_elsewhere(stage: Mapping[str, Any], vertex: Sequence[Mapping[str, Any]]) -> str:
    """A stage's jobs on Dataflow and Vertex AI, where it runs; of the latter with their machines and hours."""
    if stage["action"] != "run":
        return ""
    texts = [f"Dataflow: {', '.join(stage['dataflow_jobs'])}"] if stage["dataflow_jobs"] else []
    for jobs in vertex:
        if jobs["step"] == stage["stage"]:
            accelerator = jobs["accelerator"]
            with_accelerators = f" with {accelerator['count']} {accelerator['type']}" if accelerator else ""
            hours = jobs["machine_hours"]
            taking = f", {hours[0]:.2g} to {hours[1]:.2g} machine hours" if hours is not None else ""
            spot = "spot " if jobs["spot"] else ""
            machines = f"{jobs['machines']} {spot}{jobs['machine_type']}{with_accelerators}"
            texts.append(f"Vertex AI: {_several(jobs['jobs'], jobs['kind'])} on {machines}{taking}")
    return "; ".join(texts)


def _several(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _totals(tree: Mapping[str, Any]) -> dict[str, str]:
    writes, replaced = tree["writes"], tree["replaces"]
    size = "" if writes["bytes"] is None else f", about {bytes_text(writes['bytes'])} in {writes['shards']:,} shards"
    time = "" if writes["seconds"] is None else f", about {seconds_text(writes['seconds'])} on this machine"
    night = f"the night of {replaced['run_date']}" if replaced["run_date"] else "nothing"
    return {
        "writes": f"{_count(writes['rows'])} rows{size}{time} (says {writes['told_by']})",
        "replaces": f"{night} in {replaced['view']}",
        "jobs": ", ".join(
            f"{tree['jobs'][service]} {where}"
            for service, where in (("dataflow", "on Dataflow"), ("bigquery", "in BigQuery"), ("vertex", "on Vertex AI"))
        ),
    }


def _print_price(price: Mapping[str, Any]) -> None:
    currency = price["currency"]
    if not price["costs"]:
        print_things("", "price: nothing is billed: all of it runs and stays here")
        return
    costs = columns_table("price", f"low {currency}", f"high {currency}", "of", numeric=(f"low {currency}",))
    for cost in price["costs"]:
        costs.add_row(cost["what"], _money(cost["low"]), _money(cost["high"]), cost["basis"])
    incomplete = "" if price["is_complete"] else f"; not known, and not in it: {', '.join(price['not_known'])}"
    total = f"roughly {_money(price['low'])} to {_money(price['high'])} {currency}{incomplete}"
    print_things("", costs, "", total)
    print_things(f"prices: {price['prices']}, as of {price['as_of']}, from {', '.join(price['pages'])}")
    for assumption in price["assumptions"]:
        print_things(f"  - {assumption}")


def _count(count: int | None, unknown: str = "?") -> str:
    return unknown if count is None else f"{count:,}"


def _money(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 0.01 or amount == 0 else "< 0.01"
