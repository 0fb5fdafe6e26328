"""What commands print on standard output for a person."""

import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import rich.console
import rich.table

from beam_jobs.commands.sparklines import sparkline
from configs.job import Job

HEADLINE_METRICS = ("mae", "rmse", "auc", "accuracy", "log_loss")
"""Of a model, in one number: the first of these that it has."""
MOST_ROWS = 50
PLAIN_WIDTH = 200


def print_things(*things: Any) -> None:
    """Prints lines and tables one after the other."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = rich.console.Console(highlight=False, width=width)
    for thing in things:
        console.print(thing, markup=False) if isinstance(thing, str) else console.print(thing)


def pairs_table(rows: dict[str, str]) -> rich.table.Table:
    """A line for each name and its value."""
    table = rich.table.Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def columns_table(*headers: str, numeric: tuple[str, ...] = (), title: str | None = None) -> rich.table.Table:
    """An empty table with these columns."""
    table = rich.table.Table(box=None, title=title, title_justify="left", header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right" if header in numeric else "left", overflow="fold")
    return table


def bytes_text(count: float) -> str:
    """A byte count with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def seconds_text(seconds: float) -> str:
    """A duration with a unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_plan(plan: dict[str, Any]) -> None:
    """The axes, what each transformed feature depends on, then the totals."""
    axes = columns_table("axis", "kind", "columns", "rows", "classes", "saves", numeric=("rows", "classes", "saves"))
    for axis in plan["axes"]:
        classes = "" if axis["classes"] is None else f"{axis['classes']:,}"
        saves = "" if axis["factor"] == 1 else f"{axis['factor']:.3g}x"
        axes.add_row(axis["name"], axis["kind"], ", ".join(axis["columns"]), f"{axis['rows']:,}", classes, saves)
    features = columns_table("transformed feature", "depends on", "computed")
    for feature in plan["transformed"]:
        once = "once" if not feature["axes"] else f"once for each row of {' x '.join(feature['axes'])}"
        computed = once if feature["tabulated"] else "for every row"
        features.add_row(feature["name"], ", ".join(feature["features"]), computed)
    excluded = {"excluded": f"{plan['excluded']:,} by {plan['exclude']}"} if plan["exclude"] else {}
    factor = plan.get("factor", 1)
    scored = {"scored": f"at most 1 in {factor:.3g} rows: classes are for blocks without excluded points"}
    totals = {
        "points": f"{plan['cardinality']:,}",
        **excluded,
        **(scored if excluded and factor > 1 else {}),
        "rows": f"{plan['rows']:,}; blocks: {plan['blocks']:,}; shards: {plan['shards']:,}",
        "bytes": f"about {bytes_text(plan['bytes'])}",
        "seconds": f"about {seconds_text(plan['seconds'])} on this machine",
    }
    print_things(axes, "", *([features, ""] if plan["transformed"] else []), pairs_table(totals))


def print_skew(report: dict[str, Any]) -> None:
    """Mismatches of each feature, then the predictions' difference."""
    table = columns_table("feature", "mismatches", numeric=("mismatches",))
    for feature, count in report["mismatches"].items():
        table.add_row(feature, f"{count:,}")
    print_things(table, "", f"{report['rows']:,} rows compared, byte for byte")
    largest = f"{report['max_relative_difference']:.3g} (relative)"
    print_things(f"predictions at batch 1 and batch N differ by at most {largest}")


def print_row(row: dict[str, Any]) -> None:
    """One row of the prediction table, a line a column."""
    print_things(pairs_table({column: value_text(value) for column, value in row.items()}))


def print_table(rows: pa.Table) -> None:
    """The first rows of a query's result."""
    numeric = tuple(f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type))
    table = columns_table(*rows.column_names, numeric=numeric)
    for row in rows.slice(0, MOST_ROWS).to_pylist():
        table.add_row(*(value_text(value) for value in row.values()))
    print_things(table)
    if rows.num_rows > MOST_ROWS:
        print_things(f"… {rows.num_rows - MOST_ROWS:,} more rows; --json prints all")


def print_runs(job: Job, runs: list[dict[str, Any]]) -> None:
    """The last nights, newest first, with the one that readers see marked; what was said of those without a table."""
    if not runs:
        print_things(f"no night of {job.name} has run")
        return
    metric = next(
        (name for name in HEADLINE_METRICS if any(run["metrics"].get(name) is not None for run in runs)), None
    )
    numbers = ("rows", "time", *([metric] if metric else []), "changed", "drift")
    table = columns_table("", "run date", "run id", "status", *numbers, "model", "what was said", numeric=numbers)
    for run in runs:
        has_table = run["status"] in ("current", "kept", "expired", "lost")
        measured = (run["metrics"].get(metric),) if metric else ()
        table.add_row(
            "*" if run["status"] == "current" else "",
            run["run_date"],
            run["run_id"],
            run["status"],
            "" if run["rows"] is None else f"{run['rows']:,}",
            "" if run["seconds"] is None else seconds_text(run["seconds"]),
            *("" if value is None else f"{value:.4g}" for value in measured),
            "" if run["changed_fraction"] is None else f"{run['changed_fraction']:.2%}",
            "" if run["drift"] is None else f"{run['drift']:.0%} of its threshold",
            run["model_version"] or "",
            "" if has_table else run["line"],
        )
    print_things(table, f"* is what {job.name}_predictions shows")
    if len(runs) > 1:
        print_things("", _small_multiples(runs, metric))


def _small_multiples(runs: list[dict[str, Any]], metric: str | None) -> rich.table.Table:
    """How each number went from the earliest of the nights to the last."""
    in_time = runs[::-1]
    series: dict[str, tuple[list[float | None], Callable[[float], str]]] = {
        "rows": ([run["rows"] for run in in_time], lambda rows: f"{rows:,.0f}"),
        "time": ([run["seconds"] for run in in_time], seconds_text),
        "changed": ([run["changed_fraction"] for run in in_time], lambda part: f"{part:.2%}"),
        "drift": ([run["drift"] for run in in_time], lambda part: f"{part:.0%} of its threshold"),
    }
    if metric is not None:
        series[metric] = ([run["metrics"].get(metric) for run in in_time], lambda value: f"{value:.4g}")
    table = columns_table(f"since {in_time[0]['run_date']}", "", "least", "greatest", numeric=("least", "greatest"))
    for name, (values, text) in series.items():
        known = [value for value in values if value is not None]
        if known:
            table.add_row(name, sparkline(values), text(min(known)), text(max(known)))
    return table


def print_status(status: dict[str, Any]) -> None:
    """What is published, then the stages of the last runs."""
    published = status["published"]
    if published is None:
        print_things("nothing is published")
    else:
        print_things(
            f"published: the night of {published['run_date']} (run {published['run_id']}), {published['rows']:,} rows"
        )
        print_things(f"view:      {status['view']} in {status['warehouse']}")
    if status["nights"]:
        table = columns_table("run date", "run id", "finished stages", "next")
        for night in status["nights"]:
            ahead = "refused: " + "; ".join(night["refused"]) if night["refused"] else night["next"] or ""
            table.add_row(night["run_date"], night["run_id"], " ".join(night["finished"]), ahead)
        print_things("", table)


def value_text(value: Any) -> str:
    """A cell."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return f"{value:.7g}" if isinstance(value, float) else str(value)
