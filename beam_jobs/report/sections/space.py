"""The input space: its axes, what they collapse to, and what the product takes."""

import math
from collections.abc import Mapping
from typing import Any

from beam_jobs.report.parts import Block, Cell, Note, Row, Section, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import bytes_text, count_text, fraction_text, join_words, seconds_text


def space_section(subject: Subject) -> Section | None:
    """The plan, beside what the night really took."""
    plan = subject.files.markers.get("plan", {}).get("plan")
    if not plan:
        return None
    done = subject.files.markers.get("precompute")
    most = max((math.log(max(axis["rows"], 1)) for axis in plan["axes"]), default=1) or 1
    rows: list[Row] = [
        (
            axis["name"],
            Cell(axis["kind"], "quiet"),
            Cell(f"{axis['rows']:,}", bar=math.log(max(axis["rows"], 1)) / most),
            "–" if axis.get("classes") is None else f"{axis['classes']:,}",
            "" if axis.get("factor", 1) == 1 else f"{axis['factor']:.3g}×",
            Cell(_described(subject, axis["columns"]), "quiet", wide=True),
        )
        for axis in plan["axes"]
    ]
    headers: tuple[str, ...] = ("axis", "kind", "values", "classes", "saves", "of")
    if not any(row[4] for row in rows):
        headers, rows = (*headers[:4], headers[5]), [(*row[:4], row[5]) for row in rows]
    axes = table(
        headers,
        rows,
        numeric=("values", "classes", "saves"),
        caption="The axes, whose product is the table",
        note="Bars are logarithmic. Values that the model cannot tell apart are one class, scored once.",
    )
    blocks: list[Block] = [axes]
    if plan["excluded"]:
        part = fraction_text(plan["excluded"] / plan["cardinality"])
        blocks.append(Note((f"{plan['excluded']:,} points ({part}) are excluded by {plan['exclude']}",)))
    figures = [("points", f"{plan['cardinality']:,}", ""), ("rows", f"{plan['rows']:,}", "")]
    figures += [
        ("bytes", f"about {bytes_text(plan['bytes'])}", _written(done)),
        ("seconds", f"about {seconds_text(plan['seconds'])}", seconds_text(done["seconds"]) if done else "–"),
    ]
    if done:
        figures[1] = ("rows", f"{plan['rows']:,}", f"{done['manifest']['rows']:,}")
        figures.append(("rows a second", "", f"{done['manifest']['rows'] / max(done['seconds'], 1e-3):,.0f}"))
    blocks.append(table(("", "planned", "done"), figures, numeric=("planned", "done")))
    sizes = " × ".join(f"{axis['rows']:,}" for axis in plan["axes"])
    lead = f"{count_text(plan['cardinality'], 'point')}"
    lead += f" ({sizes})" if len(plan["axes"]) > 1 else ""
    collapsed = [axis["name"] for axis in plan["axes"] if axis.get("classes") and axis["classes"] < axis["rows"]]
    verb = "collapses" if len(collapsed) == 1 else "collapse"
    lead += f"; {join_words(collapsed)} {verb} to fewer classes." if collapsed else "."
    return Section("space", "Input space", lead, tuple(blocks))


def _written(done: Mapping[str, Any] | None) -> str:
    return bytes_text(sum(shard["bytes"] for shard in done["manifest"]["shards"])) if done else "–"


def _described(subject: Subject, columns: list[str]) -> str:
    if len(columns) == 1:
        return subject.description(columns[0])
    return join_words(columns, 4)
