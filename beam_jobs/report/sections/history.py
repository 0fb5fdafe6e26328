"""The last nights as small multiples: what became of them, how large, how long, how good, how much they moved."""

import datetime
from collections.abc import Callable, Sequence

from beam_jobs.commands.tables import HEADLINE_METRICS
from beam_jobs.history import NightSummary
from beam_jobs.report.drawing import BAD, EVAL, GOOD, SOFT, TONIGHT, css, panel, svg_of
from beam_jobs.report.parts import Cell, Key, Picture, Pictures, Row, Section, Table, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, number, seconds_text, shortened

_TONES: dict[str, Tone] = {
    "published": "good",
    "kept": "good",
    "refused": "warn",
    "failed": "bad",
    "unfinished": "quiet",
}
_COLORS = {"published": GOOD, "kept": GOOD, "refused": EVAL, "failed": BAD, "unfinished": SOFT}
Value = Callable[[NightSummary], float | None]


def history_section(subject: Subject) -> Section | None:
    """A panel for each number that nights have in common."""
    nights = list(reversed(subject.nights))
    if not nights:
        return None
    courses: list[tuple[str, str, Value, Callable[[float | None], str]]] = [
        ("rows", "in the table", lambda night: night.rows, lambda value: count_text(value)),
        (
            "time",
            "of all stages, in seconds",
            lambda night: night.seconds or None,
            lambda value: seconds_text(value or 0),
        ),
    ]
    known = {name for night in nights for name, value in night.metrics.items() if value is not None}
    for name in [name for name in HEADLINE_METRICS if name in known][:3]:
        courses.append((name, "of the model, on the eval split", _metric(name), number))
    courses.append(("changed", "part of the answers", lambda night: night.changed_fraction, fraction_text))
    courses.append(("drift", "largest distance, as part of its threshold", lambda night: night.drift, fraction_text))
    pictures = [_picture(name, about, value, text, nights) for name, about, value, text in courses]
    shown = tuple(picture for picture in pictures if picture is not None)
    good = sum(night.status in ("published", "kept") for night in nights)
    lead = f"{good} of the last {len(nights)} runs ended in a table" if len(nights) > 1 else "The only run so far"
    bad = [night for night in reversed(nights) if night.status not in ("published", "kept")]
    if bad:
        lead += f"; last {bad[0].status}: the night of {bad[0].run_date}"
    legend = [Key(status, css(_COLORS[status]), "dot") for status in _TONES if any(n.status == status for n in nights)]
    blocks = [Pictures(shown, tuple(legend))] if len(nights) > 1 and shown else []
    return Section("history", "The last nights", f"{lead}.", (*blocks, _table(subject, nights)))


def _metric(name: str) -> Value:
    return lambda night: night.metrics.get(name)


def _picture(
    name: str, about: str, value: Value, text: Callable[[float | None], str], nights: Sequence[NightSummary]
) -> Picture | None:
    values = [value(night) for night in nights]
    known = [number for number in values if number is not None]
    if not known:
        return None
    figure, axes = panel(height=130, left=52, bottom=24)
    places = list(range(len(nights)))
    line = [(place, found) for place, found in zip(places, values, strict=True) if found is not None]
    axes.plot([place for place, _ in line], [found for _, found in line], color=TONIGHT, linewidth=1.4, alpha=0.6)
    for place, at in line:
        axes.scatter([place], [at], s=22, color=_COLORS[nights[place].status], linewidths=0, zorder=4)
    low, high = min(known), max(known)
    room = (high - low) or abs(high) or 1
    axes.set_ylim(low - 0.35 * room, high + 0.2 * room)
    for place, found in zip(places, values, strict=True):
        if found is None:  # a night without this number is still a night
            axes.scatter(
                [place], [low - 0.25 * room], s=18, marker="x", color=_COLORS[nights[place].status], linewidths=1.5
            )
    axes.set_xlim(-0.5, len(nights) - 0.5)
    ends = sorted({0, len(nights) - 1})
    axes.set_xticks(ends, [_day(nights[end].run_date) for end in ends])
    first, *last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    for tick in last:
        tick.set_horizontalalignment("right")
    axes.locator_params(axis="y", nbins=3)
    axes.yaxis.set_major_formatter(lambda at, _: text(at))
    said = f"{text(values[-1])} in the last run" if values[-1] is not None else "None in the last run"
    said += f"; {text(low)} to {text(high)}" if low != high else f"; always {text(low)}"
    said += f" in {count_text(len(known), 'run')}."
    return Picture(name, svg_of(figure, said), said, about)


def _day(date: str) -> str:
    day = datetime.date.fromisoformat(date)
    return f"{day.day} {day:%b}"


def _table(subject: Subject, nights: Sequence[NightSummary]) -> Table:
    known = {name for night in nights for name, value in night.metrics.items() if value is not None}
    metric = next((name for name in HEADLINE_METRICS if name in known), None)
    rows: list[Row] = []
    for night in reversed(nights):
        this = night.run_id == subject.files.run_id
        status = Cell(night.status, _TONES[night.status])
        rows.append(
            (
                f"{night.run_date} ◂" if this else night.run_date,
                status,
                "–" if night.rows is None else f"{night.rows:,}",
                seconds_text(night.seconds),
                *([number(night.metrics.get(metric))] if metric else []),
                fraction_text(night.changed_fraction),
                fraction_text(night.drift),
                Cell("" if night.status == "published" else shortened(night.line, 160), "quiet", wide=True),
            )
        )
    numbers = ("rows", "time", *([metric] if metric else []), "changed", "drift")
    headers = ("night", "status", *numbers, "what was said")
    return table(headers, rows, numeric=numbers, folded="Every run" if len(nights) > 8 else None)
