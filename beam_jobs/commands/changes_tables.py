"""What `foretable changes` prints for a person."""

from collections.abc import Mapping
from typing import Any

from beam_jobs.commands.tables import columns_table, print_things, value_text

MOST_SLICES, SHOWN_MOVERS = 20, 5


def print_changes(tree: Mapping[str, Any]) -> None:
    """The verdict and the checks, then what changed: each output, the slices that changed most, the farthest movers."""
    against = f"against {tree['against']}" if tree["against"] else "the first night"
    print_things(f"{tree['job']}, night of {tree['run_date']} (run {tree['run_id']}), {against}: {tree['verdict']}")
    if tree["note"] and tree["against"]:
        print_things(tree["note"])
    if tree["checks"]:
        checks = columns_table("check", "", "finding")
        for check in tree["checks"]:
            warning = check.get("warning")
            reason = f"; accepted: {check['accepted']}" if check["accepted"] else ""
            checks.add_row(
                check["name"], _state(check), f"{check['finding']}{reason}{f'; {warning}' if warning else ''}"
            )
        print_things("", checks)
    if tree["overall"] is not None:
        _print_overall(tree["overall"])
        if tree["quantile_rows"] > 1:
            print_things(f"1 %, median and 99 % are of 1 row in {tree['quantile_rows']:,}; all else is of every row")
        _print_slices(tree["slices"])
        for name, movers in {**tree["movers"], **tree["flips"]}.items():
            _print_movers(name, movers)


def _state(check: Mapping[str, Any]) -> str:
    if check.get("warning"):
        return "not judged"
    if check["passed"]:
        return "passed"
    return "accepted" if check["accepted"] else "FAILED"


def _print_overall(overall: Mapping[str, Any]) -> None:
    print_things("", f"{overall['common']:,} rows in both nights, {overall['new']:,} new, {overall['gone']:,} gone")
    headers = ("changed", "of all", "mean", "mean size", "lowest", "1 %", "median", "99 %", "highest")
    table = columns_table("output", "by more than", *headers, numeric=headers)
    for name, output in overall["outputs"].items():
        quantiles = output["quantiles"]
        threshold = "(a class)" if output["is_class"] else f"{output['threshold']:g}"
        numbers = [output["mean"], output["mean_absolute"], *(quantiles.get(p) for p in ("0", "1", "50", "99", "100"))]
        shown = ["" if number is None else f"{number:.4g}" for number in numbers]
        table.add_row(name, threshold, f"{output['changed']:,}", _fraction(output), *shown)
    print_things("", table)


def _print_slices(slices: list[dict[str, Any]]) -> None:
    if not slices:
        return
    headers = ("rows", "new", "gone", "changed", "of all", "mean")
    table = columns_table("slice", "output", *headers, numeric=headers)
    ranked = sorted(
        ((name, output, part) for part in slices for name, output in part["outputs"].items()),
        key=lambda found: -(found[1]["fraction"] or 0),
    )
    for name, output, part in ranked[:MOST_SLICES]:
        where = ", ".join(f"{column}={value_text(value)}" for column, value in part["slice"].items())
        mean = "" if output["mean"] is None else f"{output['mean']:.4g}"
        counts = (f"{part['common']:,}", f"{part['new']:,}", f"{part['gone']:,}", f"{output['changed']:,}")
        table.add_row(where, name, *counts, _fraction(output), mean)
    print_things("", table)
    if len(ranked) > MOST_SLICES:
        print_things(f"… {len(ranked) - MOST_SLICES:,} more slices; --json prints all")


def _print_movers(name: str, movers: list[dict[str, Any]]) -> None:
    if not movers:
        return
    keys, columns = list(movers[0]["key"]), list(movers[0]["now"])
    table = columns_table(*keys, *(f"{column} before -> now" for column in columns), title=f"{name} moved most in")
    for mover in movers[:SHOWN_MOVERS]:
        moves = [f"{value_text(mover['before'][column])} -> {value_text(mover['now'][column])}" for column in columns]
        table.add_row(*(value_text(mover["key"][key]) for key in keys), *moves)
    print_things("", table)


def _fraction(output: Mapping[str, Any]) -> str:
    return "" if output["fraction"] is None else f"{output['fraction']:.2%}"
