"""The results as one plot: rows a second against points, a panel a model, each line named where it ends."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.report import Results, short

# Ours in one strong colour, the limit people believe in in black and greys, each peer in a colour of its own.
_STYLES: dict[str, dict[str, Any]] = {
    "engine": {"color": "#c2185b", "linewidth": 2.8, "zorder": 9},
    "engine_factored": {"color": "#d8588a", "linewidth": 1.6, "zorder": 8},
    "engine_columnar": {"color": "#e39abb", "linewidth": 1.6, "zorder": 7},
    "bare_loop_65536": {"color": "#1a1a1a", "linewidth": 2.0, "linestyle": (0, (5, 2))},
    "bare_loop_4096": {"color": "#6b6b6b", "linewidth": 1.4, "linestyle": (0, (5, 2))},
    "bare_loop_64": {"color": "#a3a3a3", "linewidth": 1.4, "linestyle": (0, (5, 2))},
    "ray_data": {"color": "#00796b"},
    "run_inference_blocks": {"color": "#90b4e6"},
    "run_inference": {"color": "#1565c0"},
    "run_inference_results": {"color": "#5c93da"},
    "tfx_bsl": {"color": "#e08e0b"},
    "per_row": {"color": "#8d5a3b"},
}
_LABEL_DISTANCE = 0.036
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.5, "shrinkA": 1, "shrinkB": 5}
_NOTE_BREAKS = {1: "\n", 2: " "}
_GRID = "#e6e6e6"
_INK = "#333333"


def draw_results(results: Results, path: pathlib.Path) -> None:
    """Writes the plot as PNG. A hollow mark is a path that scored the first points only."""
    models = list(dict.fromkeys(result["model"] for result in results.results))
    columns = min(len(models), 2)
    rows = -(-len(models) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.4 * columns, 5.4 * rows + 0.6), squeeze=False, sharey=True)
    rates = [result["rows_per_second"] for result in results.results]
    limits = min(rates) / 2, 1.8 * max(rates)
    for model, panel in itertools.zip_longest(models, axes.flat):
        if model is None:
            panel.set_visible(False)
            continue
        _draw_panel(panel, [result for result in results.results if result["model"] == model], limits)
        panel.set_title(f"{model}: {results.header['models'][model]}", loc="left", fontsize=10.5, color=_INK, pad=10)
    machine = results.header["machine"]
    figure.suptitle("Filling a prediction table: rows per second", x=0.012, ha="left", fontsize=16, fontweight="bold")
    figure.text(
        0.012,
        0.012,
        f"{machine['processor']}, {machine['cores']} cores. Start-up apart. Hollow marks: the first points only."
        f"{_NOTE_BREAKS[columns]}Dashed: the model alone, nothing written; all others write Parquet.",
        fontsize=9,
        color="#666666",
    )
    figure.tight_layout(rect=(0, 0.035, 1, 0.985), w_pad=2.5, h_pad=2.5)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_panel(panel: Any, results: Sequence[Mapping[str, Any]], limits: tuple[float, float]) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for result in sorted(results, key=lambda result: result["points"]):
        lines.setdefault(result["path"], []).append(result)
    sizes = sorted({result["points"] for result in results})
    ends = {}
    for path, line in lines.items():
        style = {"linewidth": 1.8, **_STYLES.get(path, {})}
        points, rates = [r["points"] for r in line], [r["rows_per_second"] for r in line]
        panel.plot(points, rates, solid_capstyle="round", **style)
        fills = [style["color"] if r["rows"] == r["points"] else "white" for r in line]
        panel.scatter(points, rates, s=26, c=fills, edgecolors=style["color"], linewidths=1.3, zorder=10)
        ends[path] = (points[-1], rates[-1])
    panel.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    panel.set_ylim(*limits)
    _draw_labels(panel, ends, lines)
    panel.set_xticks(sizes, [short(size) for size in sizes], color=_INK)
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_locator(LogLocator(numticks=12))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.set_xlabel("points of the input space", fontsize=9.5, color=_INK)
    panel.tick_params(which="both", length=0, labelsize=9.5, labelcolor=_INK, labelleft=True)
    panel.grid(True, which="major", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    for side in panel.spines.values():
        side.set_visible(False)


def _draw_labels(panel: Any, ends: Mapping[str, tuple[float, float]], lines: Mapping[str, Any]) -> None:
    """Names each line at its end, moved apart where they would lie on each other."""
    to_axes = panel.transAxes.inverted()
    heights = {path: to_axes.transform(panel.transData.transform(end))[1] for path, end in ends.items()}
    order = sorted(heights, key=lambda path: heights[path])
    spread = spread_apart([heights[path] for path in order], _LABEL_DISTANCE)
    for path, height in zip(order, spread, strict=True):
        start = to_axes.transform(panel.transData.transform(ends[path]))
        style = _STYLES.get(path, {"color": _INK})
        panel.annotate(
            f"{path}  {short(lines[path][-1]['rows_per_second'])}",
            xy=tuple(start),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if path == "engine" else "normal",
            color=style["color"],
            annotation_clip=False,
            arrowprops=dict(_LEADER, color=style["color"]),
        )


def spread_apart(heights: Sequence[float], distance: float) -> list[float]:
    """Rising heights, moved as little as it takes to be at least `distance` apart.

    Each height that comes too close joins the group below it, and the group is centred on where its members were.
    """
    groups: list[tuple[float, int]] = []
    for height in heights:
        centre, count = height, 1
        while groups and centre - (count - 1) / 2 * distance < groups[-1][0] + (groups[-1][1] + 1) / 2 * distance:
            below, members = groups.pop()
            centre, count = (below * members + centre * count) / (members + count), members + count
        groups.append((centre, count))
    return [c + (index - (count - 1) / 2) * distance for c, count in groups for index in range(count)]
