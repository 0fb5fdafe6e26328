"""How the features are distributed: train against eval, the serving traffic, and the last night's examples."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_jobs.report.drawing import BEFORE, EVAL, INK, SERIES, TONIGHT, css, panel, svg_of
from beam_jobs.report.feature_statistics import FeatureStatistics
from beam_jobs.report.parts import Cell, Key, Picture, Pictures, Row, Section, Table, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, join_words, number, shortened

DRAWN_WORDS, LISTED_WORDS, MOST_FEATURES, MOST_BINS = 10, 30, 40, 32
_LONG_TAIL = 2.5
_TRAFFIC = SERIES[3]
_COLORS = {"train": TONIGHT, "eval": EVAL, "traffic": _TRAFFIC, "before": BEFORE}

Compared = Mapping[str, FeatureStatistics]
Distances = Mapping[str, Sequence[Mapping[str, Any]]]


def distributions_section(subject: Subject) -> Section | None:
    """A panel for each feature and for the label; those that moved over a threshold come first."""
    tonight = subject.statistics
    train = tonight.get("train") or next(iter(tonight.values()), {})
    if not train:
        return None
    before = subject.statistics_before.get("train", {})
    sides = {"train": train, "eval": tonight.get("eval", {}), "traffic": subject.traffic, "before": before}
    declared = [*subject.job.get("features", {}), (subject.job.get("label") or {}).get("name")]
    distances = read_distances(subject)
    names = sorted((name for name in declared if name in train), key=lambda name: not _breached(distances, name))
    pictures = []
    for name in names[:MOST_FEATURES]:
        compared = {side: features[name] for side, features in sides.items() if name in features}
        compared = {"train": train[name]} | compared
        pictures.append(_picture(subject, name, compared, distances.get(name, ())))
    breached = [name for name in names if _breached(distances, name)]
    lead = f"{count_text(len(names), 'column')} that the model reads or predicts"
    if distances:
        lead += f"; {join_words(breached)} moved over the threshold" if breached else "; none moved over its threshold"
    if len(names) > MOST_FEATURES:
        lead += f"; the first {MOST_FEATURES} are drawn"
    blocks = (Pictures(tuple(pictures), _legend(subject, bool(before))),)
    return Section("features", "Features", f"{lead}.", blocks, "warn" if breached else "")


def read_distances(subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """Distances by feature, each with the comparison that it is of; drift is from the last night alone.

    It is breached only where it is breached against each of the last nights, as the check judges it.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    content = subject.files.tree("distances.json")
    last = max((entry.get("against") or "" for entry in content.get("drift") or ()), default="")
    breaches: dict[str, set[tuple[str, str]]] = {}
    for entry in content.get("drift") or ():
        found_then = breaches.setdefault(entry.get("against") or "", set())
        if entry.get("breached"):
            found_then.add((entry["feature"], entry.get("measure", "")))
    everywhere = set.intersection(*breaches.values()) if breaches else set()
    for comparison in ("skew", "drift"):
        for entry in content.get(comparison) or ():
            if comparison == "skew" or (entry.get("against") or "") == last:
                key = (entry["feature"], entry.get("measure", ""))
                is_breached = bool(entry.get("breached")) and (comparison == "skew" or key in everywhere)
                shown = {**entry, "comparison": comparison, "breached": is_breached}
                found.setdefault(entry["feature"], []).append(shown)
    return found


def _breached(distances: Distances, name: str) -> bool:
    return any(entry.get("breached") for entry in distances.get(name, ()))


def _legend(subject: Subject, has_before: bool) -> tuple[Key, ...]:
    keys = [Key("train split", css(TONIGHT), "area"), Key("eval split", css(EVAL))]
    if subject.traffic:
        keys.append(Key("serving traffic", css(_TRAFFIC)))
    if has_before and subject.before is not None:
        keys.append(Key(f"train split of {subject.before.run_date}", css(BEFORE), "dash"))
    return tuple(keys)


def _picture(subject: Subject, name: str, compared: Compared, distances: Sequence[Mapping[str, Any]]) -> Picture:
    is_text = compared["train"].is_text
    compared = {side: stats for side, stats in compared.items() if stats.is_text == is_text}
    sentence = f"{_words_sentence(compared) if is_text else _numbers_sentence(compared)}{_distance_sentence(distances)}"
    is_empty = not (compared["train"].words or compared["train"].buckets)
    tone: Tone = "warn" if any(entry.get("breached") for entry in distances) else ""
    if is_empty:
        return Picture(name, "", sentence, subject.description(name), tone=tone)
    if is_text:
        return Picture(
            name, _draw_words(compared, sentence), sentence, subject.description(name), _words_table(compared), tone
        )
    edges = shared_edges(list(compared.values()))
    train = compared["train"]
    beyond = 1 - train.rows_between(edges).sum() / max(train.count, 1)
    if beyond > 1e-9:
        sentence += f" {fraction_text(beyond)} of the values are beyond the picture."
    svg = _draw_numbers(compared, edges, sentence)
    return Picture(name, svg, sentence, subject.description(name), _numbers_table(compared, edges), tone)


def _distance_sentence(distances: Sequence[Mapping[str, Any]]) -> str:
    text = ""
    for entry in distances:
        if entry.get("distance") is None or (entry.get("measure") in ("missing", "gone") and not entry.get("breached")):
            continue
        allowed = entry.get("threshold")
        limit = (
            f", over the {number(allowed, 2)} allowed" if entry.get("breached") else f" of {number(allowed, 2)} allowed"
        )
        against = f" since {entry['against']}" if entry.get("against") else ""
        measure = str(entry.get("measure", "distance")).replace("l_infinity", "L∞").replace("_", "–").title()
        about = f" ({entry['about']})" if entry.get("breached") and entry.get("about") else ""
        what = "Drift" if entry["comparison"] == "drift" else "Skew of the traffic"
        text += f" {what}{against}: {measure} {number(entry['distance'], 2)}{limit if allowed else ''}{about}."
    return text


def _numbers_sentence(compared: Compared) -> str:
    train, before = compared["train"], compared.get("before")
    if train.mean is None:
        return "No value in the train split."
    text = f"Median {number(train.median)}, mean {number(train.mean)}"
    if before is not None and before.mean is not None:
        text += f" ({number(before.mean)} the night before)"
    return f"{text}, from {number(train.minimum)} to {number(train.maximum)}; {_missing(train)}."


def _words_sentence(compared: Compared) -> str:
    train = compared["train"]
    if not train.words:
        return "No value in the train split."
    most = ", ".join(
        f"{shortened(word, 30) or '(empty)'} {fraction_text(count / max(train.count, 1))}"
        for word, count in train.words[:2]
    )
    return f"{count_text(train.unique, 'different word')}, most often {most}; {_missing(train)}."


def _missing(stats: FeatureStatistics) -> str:
    return f"{fraction_text(stats.missing_fraction)} missing" if stats.missing else "none missing"


def shared_edges(stats: Sequence[FeatureStatistics]) -> np.ndarray:
    """Edges of bins that all the histograms are counted in; around whole numbers where there are no others.

    A long tail is cut off where it would leave no room for the rest: at the first and the 99th percentile.
    """
    known = [bucket for side in stats for bucket in side.buckets]
    low, high = min(bucket[0] for bucket in known), max(bucket[1] for bucket in known)
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    inner_low = min(_percentile(side, 0.01) for side in stats if side.buckets)
    inner_high = max(_percentile(side, 0.99) for side in stats if side.buckets)
    if inner_high > inner_low and high - low > _LONG_TAIL * (inner_high - inner_low):
        low, high = inner_low, inner_high
    if all(bucket[0] == bucket[1] and float(bucket[0]).is_integer() for bucket in known):
        width = math.ceil((high - low + 1) / MOST_BINS)
        return low - 0.5 + width * np.arange(math.ceil((high - low + 1) / width) + 1)
    return np.linspace(low, high, MOST_BINS - 7)


def _percentile(stats: FeatureStatistics, part: float) -> float:
    """Upper edge of the bucket in which it lies."""
    reached = np.cumsum([count for _, _, count in stats.buckets])
    place = min(int(np.searchsorted(reached, part * reached[-1] * (1 - 1e-9))), len(stats.buckets) - 1)
    return stats.buckets[place][1]


def _draw_numbers(compared: Compared, edges: np.ndarray, alternative: str) -> str:
    figure, axes = panel(height=150, left=12)
    for side, stats in compared.items():
        if not stats.buckets:
            continue
        shares, color = stats.rows_between(edges) / max(stats.count, 1), _COLORS[side]
        if side == "train":
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.28, linewidth=0)
        is_before = side == "before"
        axes.stairs(
            shares, edges, color=color, linewidth=1.5 if is_before else 1.8, linestyle=(0, (3, 2)) if is_before else "-"
        )
    if compared["train"].median is not None:
        axes.axvline(compared["train"].median, color=INK, linewidth=1, ymax=0.07)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    return svg_of(figure, alternative)


def _draw_words(compared: Compared, alternative: str) -> str:
    words = [word for word, _ in compared["train"].words[:DRAWN_WORDS]]
    left = min(150, 16 + max(6.4 * len(shortened(word, 20)) for word in words))
    figure, axes = panel(height=44 + 19 * max(len(words), 2), left=int(left), right=34)
    longest = 0.0
    for row, word in enumerate(words):
        shares = {side: share_of(stats, word) for side, stats in compared.items()}
        longest = max(longest, *shares.values())
        axes.barh(row, shares["train"], height=0.5, color=TONIGHT, alpha=0.28, linewidth=0)
        axes.plot([shares["train"]] * 2, [row - 0.27, row + 0.27], color=TONIGHT, linewidth=2.2)
        if "before" in shares:
            ends = [row - 0.4, row + 0.4]
            axes.plot([shares["before"]] * 2, ends, color=BEFORE, linewidth=1.3, linestyle=(0, (2, 1)))
        for side in ("eval", "traffic"):
            if side in shares:
                axes.scatter([shares[side]], [row], s=22, color=_COLORS[side], zorder=5, linewidths=0)
    axes.set_ylim(len(words) - 0.4, -0.6)
    axes.set_yticks(range(len(words)), [shortened(word, 20) or "(empty)" for word in words], color=INK)
    axes.set_xlim(0, longest * 1.04 or 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.locator_params(axis="x", nbins=4)
    return svg_of(figure, alternative)


def share_of(stats: FeatureStatistics, word: str) -> float:
    """The part of the values that are this word, of those that are counted one by one."""
    return dict(stats.words).get(word, 0.0) / max(stats.count, 1)


def _words_table(compared: Compared) -> Table:
    train = compared["train"]
    rows: list[Row] = []
    for word, _ in train.words[:LISTED_WORDS]:
        shares = [fraction_text(share_of(stats, word)) for stats in compared.values()]
        rows.append((Cell(shortened(word, 60) or "(empty)", wide=True), *shares))
    rows.append((Cell("missing", "quiet"), *(fraction_text(stats.missing_fraction) for stats in compared.values())))
    sides = tuple(map(_side, compared))
    more = (train.unique or 0) - min(len(train.words), LISTED_WORDS)
    note = f"The most frequent of {train.unique:,} words; {more:,} more are not listed." if more > 0 else ""
    return table(("word", *sides), rows, numeric=sides, folded="Numbers", note=note)


def _numbers_table(compared: Compared, edges: np.ndarray) -> Table:
    lines = {
        "values": lambda stats: f"{stats.count:,}",
        "missing": lambda stats: fraction_text(stats.missing_fraction),
        "lowest": lambda stats: number(stats.minimum),
        "median": lambda stats: number(stats.median),
        "mean": lambda stats: number(stats.mean),
        "highest": lambda stats: number(stats.maximum),
    }
    rows: list[Row] = [(name, *map(text, compared.values())) for name, text in lines.items()]
    shares = [stats.rows_between(edges) / max(stats.count, 1) for stats in compared.values()]
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        rows.append((f"{number(low)} to {number(high)}", *(fraction_text(float(side[place])) for side in shares)))
    sides = tuple(map(_side, compared))
    return table(("", *sides), rows, numeric=sides, folded="Numbers")


def _side(side: str) -> str:
    return "night before" if side == "before" else side
