"""How the predictions are distributed over the whole table, tonight against the night before."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_jobs.report.drawing import BEFORE, INK, TONIGHT, css, panel, svg_of
from beam_jobs.report.parts import Beside, Block, Cell, Key, Note, Picture, Pictures, Row, Section, Table, table
from beam_jobs.report.queries import BINS, Tables
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, number, shortened, value_text
from beam_jobs.warehouses.base import Column, NightRecord

MOST_OUTPUTS, DRAWN_WORDS, LISTED_WORDS, DRAWN_BINS, COUNTED_INTEGERS = 12, 12, 30, 40, 30
Nights = Sequence[tuple[str, NightRecord]]


def predictions_section(subject: Subject) -> Section | None:
    """A panel for each output of a night whose table can be read."""
    if subject.record is None or subject.warehouse is None:
        return None
    tables = Tables.of(subject.warehouse, subject.job)
    before = subject.before
    nights: list[tuple[str, NightRecord]] = [("tonight", subject.record)]
    if before is not None:
        nights.append((before.run_date.isoformat(), before))
    outputs = [column for column in subject.outputs if not column.type.endswith("[]")]
    numeric = [column for column in outputs if column.type in ("float", "int")][:MOST_OUTPUTS]
    ranges = {side: tables.ranges(record, _in(record, numeric)) for side, record in nights}
    pictures = []
    for column in outputs[:MOST_OUTPUTS]:
        sides = [(side, record) for side, record in nights if _in(record, [column])]
        known = [ranges[side][column.name] for side, _ in sides if column.name in ranges[side]]
        low, high = min((k[0] for k in known), default=0.0), max((k[1] for k in known), default=0.0)
        counted = column.type == "int" and high - low <= COUNTED_INTEGERS
        if column.type in ("string", "bool") or counted or low == high:
            pictures.append(_words(tables, column, sides))
        else:
            means = {side: ranges[side][column.name][2] for side, _ in sides if column.name in ranges[side]}
            pictures.append(_numbers(tables, column, sides, low, high, means))
    left_out = [column.name for column in subject.outputs if column not in outputs[:MOST_OUTPUTS]]
    blocks: list[Block] = []
    if len(pictures) == 1:
        alone, numbers = dataclasses.replace(pictures[0], table=None), pictures[0].table
        assert numbers is not None, alone.title
        opened = dataclasses.replace(numbers, folded=None)
        blocks.append(Beside((Pictures((alone,), _legend(before)),), (opened,)))
    elif pictures:
        blocks.append(Pictures(tuple(pictures), _legend(before)))
    if left_out:
        blocks.append(
            Note((f"Not pictured: {', '.join(left_out[:20])} (arrays, or beyond the first {MOST_OUTPUTS}).",))
        )
    against = f", against the night of {before.run_date}" if before is not None else "; there is no night before"
    lead = f"Over the whole table, {count_text(subject.record.rows, 'row')}{against}."
    return Section("predictions", "Predictions", lead, tuple(blocks))


def _in(record: NightRecord, columns: Sequence[Column]) -> list[Column]:
    types = {column.name: column.type for column in record.columns}
    return [column for column in columns if types.get(column.name) == column.type]


def _legend(before: NightRecord | None) -> tuple[Key, ...]:
    keys = (Key("tonight", css(TONIGHT), "area"),)
    return (*keys, Key(f"{before.run_date}", css(BEFORE), "dash")) if before is not None else keys


def _numbers(
    tables: Tables, column: Column, sides: Nights, low: float, high: float, means: dict[str, float]
) -> Picture:
    counts = {side: np.array(tables.histogram(record, column.name, low, high)) for side, record in sides}
    edges = np.linspace(low, high, BINS + 1)
    shares = {side: count / max(count.sum(), 1) for side, count in counts.items()}
    quantiles = {side: [_quantile(share, edges, part) for part in (0.05, 0.5, 0.95)] for side, share in shares.items()}
    tonight, others = sides[0][0], [side for side, _ in sides[1:]]
    said = f"Mean {number(means[tonight])}"
    said += "".join(f" ({number(means[side])} on {side})" for side in others)
    said += f"; half of the rows are below {number(quantiles[tonight][1], 3)}, nine tenths between "
    said += f"{number(quantiles[tonight][0], 3)} and {number(quantiles[tonight][2], 3)}, to a bin's width."
    figure, axes = panel(height=170, left=40)
    coarse = edges[:: BINS // DRAWN_BINS]
    for side in reversed(shares):
        heights = shares[side].reshape(DRAWN_BINS, -1).sum(axis=1)
        if side == tonight:
            axes.stairs(heights, coarse, fill=True, color=TONIGHT, alpha=0.28, linewidth=0)
            axes.stairs(heights, coarse, color=TONIGHT)
        else:
            axes.stairs(heights, coarse, color=BEFORE, linestyle=(0, (3, 2)), linewidth=1.5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    rows: list[Row] = [("mean", *(number(means[side]) for side, _ in sides))]
    for index, name in enumerate(("5 % quantile", "median", "95 % quantile")):
        rows.append((name, *(number(quantiles[side][index], 3) for side, _ in sides)))
    step = BINS // 10
    for start in range(0, BINS, step):
        bounds = f"{number(float(edges[start]), 3)} to {number(float(edges[start + step]), 3)}"
        rows.append((bounds, *(fraction_text(float(shares[side][start : start + step].sum())) for side, _ in sides)))
    return Picture(column.name, svg_of(figure, said), said, column.description, _table("", rows, sides))


def _quantile(shares: np.ndarray, edges: np.ndarray, part: float) -> float:
    """Upper edge of the bin in which the quantile lies."""
    return float(edges[1 + min(int(np.searchsorted(np.cumsum(shares), part)), BINS - 1)])


def _words(tables: Tables, column: Column, sides: Nights) -> Picture:
    counts = {side: dict(tables.values(record, column.name)) for side, record in sides}
    shares = {
        side: {word: count / max(record.rows, 1) for word, count in counts[side].items()} for side, record in sides
    }
    tonight = shares[sides[0][0]]
    words = list(tonight)
    most = ", ".join(f"{value_text(word)} {_change(word, shares, sides)}" for word in words[:2])
    said = f"{count_text(len(words), 'answer')}: {most}." if len(words) <= 2 else f"Most often {most}."
    drawn = words[:DRAWN_WORDS]
    left = int(min(150, 18 + max((6.4 * len(shortened(value_text(word), 20)) for word in drawn), default=20)))
    figure, axes = panel(height=44 + 20 * max(len(drawn), 2), left=left, right=24)
    for row, word in enumerate(drawn):
        axes.barh(row, tonight[word], height=0.5, color=TONIGHT, alpha=0.28, linewidth=0)
        axes.plot([tonight[word]] * 2, [row - 0.27, row + 0.27], color=TONIGHT, linewidth=2.2)
        for side, _ in sides[1:]:
            share = shares[side].get(word, 0.0)
            axes.plot([share] * 2, [row - 0.4, row + 0.4], color=BEFORE, linewidth=1.3, linestyle=(0, (2, 1)))
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_yticks(range(len(drawn)), [shortened(value_text(word), 20) or "(empty)" for word in drawn], color=INK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.locator_params(axis="x", nbins=4)
    rows: list[Row] = [
        (
            Cell(shortened(value_text(word), 60), wide=True),
            *(fraction_text(shares[side].get(word, 0.0)) for side, _ in sides),
        )
        for word in words[:LISTED_WORDS]
    ]
    return Picture(column.name, svg_of(figure, said), said, column.description, _table("answer", rows, sides))


def _change(word: Any, shares: dict[str, dict[Any, float]], sides: Nights) -> str:
    text = fraction_text(shares[sides[0][0]][word])
    return text + "".join(f" ({fraction_text(shares[side].get(word, 0.0))} on {side})" for side, _ in sides[1:])


def _table(first: str, rows: Sequence[Row], sides: Nights) -> Table:
    names = tuple(side for side, _ in sides)
    return table((first, *names), rows, numeric=names, folded="Numbers")
