"""What the model believes: its prediction as one feature varies and all others stay at a typical value.

Read from the published table, so that the picture is of what readers get.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beam_jobs.published_axes import PublishedAxis
from beam_jobs.report.curve import Curve, effect, keys_of, ordered, steps
from beam_jobs.report.drawing import INK, SERIES, SOFT, TONIGHT, css, panel, svg_of
from beam_jobs.report.parts import Block, Cell, Key, Note, Picture, Pictures, Row, Section, Table, table
from beam_jobs.report.queries import Tables
from beam_jobs.report.reference_point import row_text, typical_row
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, join_words, number, shortened

MOST_OUTPUTS, MOST_FEATURES, MOST_ROWS = 2, 16, 20_000
DRAWN_WORDS, LISTED_ROWS, FEW_POINTS = 12, 30, 6
SMALL_EFFECT = 0.2
"""As a part of the largest effect: under it, one scale for both would hide a curve's shape."""


def curves_section(subject: Subject) -> Section | None:
    """A panel for each axis, for each of the first outputs."""
    if subject.record is None or subject.warehouse is None:
        return None
    title = "What the model believes"
    plan = subject.files.markers.get("plan", {}).get("plan", {})
    if any(axis["kind"] == "rows" for axis in plan.get("axes", ())):
        return Section("curves", title, "The table holds given rows, not a grid: no feature can be varied alone in it.")
    outputs = _outputs(subject)
    if not outputs:
        return None
    tables = Tables.of(subject.warehouse, subject.job)
    typical = [typical_row(subject, axis) for axis in subject.axes]
    read = sorted({column for group in outputs.values() for column in group})
    curves = []
    for place, axis in enumerate(subject.axes[:MOST_FEATURES]):
        fixed = {name: value for other, row in enumerate(typical) if other != place for name, value in row.keys.items()}
        rows = tables.line(subject.record, axis.table.column_names, read, fixed, MOST_ROWS)
        curves.append(Curve(axis, typical[place], rows))
    if not any(curve.rows for curve in curves):
        return Section(
            "curves", title, "The typical point is excluded from the table, so nothing can be varied from it."
        )
    blocks: list[Block] = []
    for name, columns in outputs.items():
        legend = tuple(Key(_class_name(column, columns), css(SERIES[i]), "line") for i, column in enumerate(columns))
        pictures = tuple(_pictures(subject, curves, columns))
        if len(outputs) > 1:
            blocks.append(Note((name,), "quiet"))
        blocks.append(Pictures(pictures, legend if len(columns) > 1 else ()))
    held = [f"{curve.name} {curve.typical.text} ({curve.typical.source})" for curve in curves]
    blocks.append(
        table(
            ("held at", "", "because it is"),
            [(curve.name, curve.typical.text, Cell(curve.typical.source, "quiet")) for curve in curves],
            folded="The typical point",
        )
    )
    first = next(iter(outputs.values()))
    ranked = sorted((curve for curve in curves if curve.rows), key=lambda curve: -effect(curve, first))
    lead = f"The prediction as one feature varies and all else stays at {join_words(held, 4)}."
    lead += f" {ranked[0].name} moves it most, by {number(effect(ranked[0], first))}"
    lead += f"; {ranked[-1].name} least, by {number(effect(ranked[-1], first))}." if len(ranked) > 1 else "."
    return Section("curves", title, lead, tuple(blocks))


def _outputs(subject: Subject) -> dict[str, list[str]]:
    """Columns to draw in one panel, by the name of the group."""
    numeric = [column.name for column in subject.outputs if column.type in ("float", "int")]
    task = (subject.job.get("task") or {}).get("kind")
    if task == "multiclass":
        return {"probabilities": numeric[: len(SERIES)]} if numeric else {}
    if task == "binary":
        return {name: [name] for name in numeric[:1]}
    return {name: [name] for name in numeric[:MOST_OUTPUTS]}


def _class_name(column: str, columns: Sequence[str]) -> str:
    prefix = "_probability_"
    return column.partition(prefix)[2] if all(prefix in name for name in columns) else column


def _pictures(subject: Subject, curves: Sequence[Curve], columns: Sequence[str]) -> Iterator[Picture]:
    """By falling effect. A feature that moves little next to another gets a scale of its own, and says so."""
    read = sorted((curve for curve in curves if curve.rows), key=lambda curve: -effect(curve, columns))
    far = [curve for curve in read if effect(curve, columns) >= SMALL_EFFECT * effect(read[0], columns)]
    for curve in read:
        about = subject.description(curve.axis.asked[0]) if len(curve.axis.asked) == 1 else "combinations that occur"
        if curve not in far:
            about = f"{about}{'; ' if about else ''}a scale of its own"
        is_line = _is_number(subject, curve.axis)
        said = _sentence(curve, columns)
        limits = _limits(far if curve in far else [curve], columns)
        figure = (_draw_line if is_line else _draw_bars)(curve, columns, limits)
        yield Picture(curve.name, svg_of(figure, said), said, about, _table(curve, columns))


def _limits(curves: Sequence[Curve], columns: Sequence[str]) -> tuple[float, float]:
    """Of the predictions, with some room."""
    rows = [row for curve in curves for row in curve.rows]
    values = [row[column] for row in rows for column in columns if row[column] is not None] or [0.0]
    room = 0.06 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
    return min(values) - room, max(values) + room


def _is_number(subject: Subject, axis: PublishedAxis) -> bool:
    """Whether the axis' values have an order that means something: an id that the model takes as a word has none."""
    if axis.intervals_of is not None:
        return True
    if len(axis.asked) > 1:
        return False
    feature = subject.job["features"].get(axis.asked[0]) or {}
    kinds = {transform.get("kind") for transform in feature.get("transforms") or ()}
    many = axis.table.num_rows > DRAWN_WORDS
    return feature.get("type") != "string" and (kinds != {"vocabulary"} or many)


def _sentence(curve: Curve, columns: Sequence[str]) -> str:
    parts = []
    for column in columns[:3]:
        rows = [row for row in curve.rows if row[column] is not None]
        low, high = (pick(rows, key=lambda row: row[column]) for pick in (min, max))
        low_text, high_text = (shortened(row_text(curve.axis, keys_of(curve, row)), 30) for row in (low, high))
        start = "" if len(columns) == 1 else f"{_class_name(column, columns)}: "
        if number(low[column]) == number(high[column]):
            apart = f" (apart by {number(high[column] - low[column], 2)})" if low[column] != high[column] else ""
            parts.append(f"{start}{number(low[column])} throughout{apart}")
            continue
        parts.append(f"{start}from {number(low[column])} at {low_text} to {number(high[column])} at {high_text}")
    missing = curve.axis.table.num_rows - len(curve.rows)
    gaps = (
        f" {count_text(missing, 'value')} of {curve.axis.table.num_rows:,} not in the table here."
        if missing > 0
        else ""
    )
    text = "; ".join(parts)
    return f"{text[0].upper() if len(columns) == 1 else text[0]}{text[1:]}.{gaps}"


def _draw_line(curve: Curve, columns: Sequence[str], limits: tuple[float, float]) -> Any:
    figure, axes = panel(height=170, left=46)
    present, missing = ordered(curve)
    for index, column in enumerate(columns if present else ()):
        color = TONIGHT if len(columns) == 1 else SERIES[index]
        if curve.axis.intervals_of is not None:
            edges, heights = steps(curve, present, column)
            axes.stairs(heights, edges, baseline=None, color=color, linewidth=1.8)
        else:
            places = [row[curve.axis.asked[0]] for row in present]
            mark = "o" if len(places) <= DRAWN_WORDS else None
            axes.plot(places, [row[column] for row in present], color=color, marker=mark, markersize=4)
    low, high = axes.get_xlim()
    axes.locator_params(axis="x", nbins=6)
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    if curve.axis.intervals_of is None and len(present) <= FEW_POINTS:
        ticks = [row[curve.axis.asked[0]] for row in present]
    for index, column in enumerate(columns):
        if missing is not None and missing[column] is not None:
            color = TONIGHT if len(columns) == 1 else SERIES[index]
            axes.scatter([high + 0.06 * (high - low)], [missing[column]], s=30, marker="D", color=color, linewidths=0)
    if missing is not None:
        ticks = [tick for tick in ticks if tick <= high - 0.1 * (high - low)]
        axes.set_xticks([*ticks, high + 0.06 * (high - low)], [*(f"{tick:g}" for tick in ticks), "missing"])
        axes.axvline(high + 0.005 * (high - low), color=SOFT, linewidth=0.6, linestyle=(0, (2, 2)))
        axes.set_xlim(low, high + 0.14 * (high - low))
    else:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(*limits)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: number(value, 5))
    return figure


def _draw_bars(curve: Curve, columns: Sequence[str], limits: tuple[float, float]) -> Any:
    rows = _drawn(curve, columns)
    labels = [shortened(row_text(curve.axis, keys_of(curve, row)), 20) or "(empty)" for row in rows]
    left = int(min(150, 16 + 6.4 * max(map(len, labels))))
    figure, axes = panel(height=44 + 20 * max(len(rows), 2), left=left)
    typical = next((row for row in curve.rows if keys_of(curve, row) == dict(curve.typical.keys)), None)
    for place, row in enumerate(rows):
        for index, column in enumerate(columns):
            color = TONIGHT if len(columns) == 1 else SERIES[index]
            if typical is not None and len(columns) == 1:
                axes.hlines(place, typical[column], row[column], color=color, linewidth=7, alpha=0.28)
            axes.scatter([row[column]], [place], s=30, color=color, linewidths=0, zorder=4)
    if typical is not None and len(columns) == 1:
        axes.axvline(typical[columns[0]], color=SOFT, linewidth=0.8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), labels, color=INK)
    axes.set_xlim(*limits)
    axes.xaxis.set_major_formatter(lambda value, _: number(value, 5))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.locator_params(axis="x", nbins=4)
    return figure


def _drawn(curve: Curve, columns: Sequence[str]) -> list[Mapping[str, Any]]:
    """All rows of a short axis; of a long one those with the highest and the lowest predictions."""
    rows = [row for row in curve.rows if all(row[column] is not None for column in columns)]
    if len(rows) <= DRAWN_WORDS:
        return rows
    ranked = sorted(rows, key=lambda row: -row[columns[0]])
    return [*ranked[: DRAWN_WORDS // 2], *ranked[-DRAWN_WORDS // 2 :]]


def _table(curve: Curve, columns: Sequence[str]) -> Table:
    rows = list(curve.rows)
    if len(rows) > LISTED_ROWS:
        rows = [rows[int(place)] for place in np.linspace(0, len(rows) - 1, LISTED_ROWS).astype(int)]
    cells: list[Row] = [
        (Cell(shortened(row_text(curve.axis, keys_of(curve, row)), 60), wide=True), *(number(row[c]) for c in columns))
        for row in rows
    ]
    left_out = len(curve.rows) - len(rows)
    note = f"{len(rows)} of {len(curve.rows):,} values, evenly spread." if left_out else ""
    return table((curve.name, *columns), cells, numeric=columns, folded="Numbers", note=note)
