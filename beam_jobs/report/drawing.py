"""How the report's pictures look: matplotlib's SVG in the page's own fonts and colours, in dark mode and print too.

matplotlib draws with stand-in colours; each is then put in place as a CSS variable of the page.
"""

import io
import itertools
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 340  # CSS pixels; a phone shows a picture in its own size
INK, SOFT, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
TONIGHT, EVAL, BEFORE, GOOD, BAD = "#050505", "#060606", "#070707", "#080808", "#090909"
# Okabe and Ito's palette, which people see apart whatever their eyes; black is left to the text.
SERIES = ("#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e", "#0f0f0f", "#101010")
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    PAPER: "--paper",
    TONIGHT: "--tonight",
    EVAL: "--eval",
    BEFORE: "--before",
    GOOD: "--good",
    BAD: "--bad",
    **{color: f"--series-{index}" for index, color in enumerate(SERIES, 1)},
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "foretable",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_numbers = itertools.count(1)


def css(color: str) -> str:
    """The page's colour that a stand-in is for."""
    return f"var({VARIABLES[color]})"


def panel(height: int = 180, left: int = 44, bottom: int = 26, top: int = 10, right: int = 10) -> tuple[Figure, Axes]:
    """An empty panel of the page's small multiples; the margins are in CSS pixels."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72))  # without pyplot, which keeps a state of its own
        axes = figure.add_axes(
            (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
        )
        axes.locator_params(nbins=5)
        axes.grid(False, axis="x")
    return figure, axes


def svg_of(figure: Figure, alternative: str) -> str:
    """The figure as an `<svg>` element for the page, which says `alternative` to those who cannot see it."""
    target = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _embedded(target.getvalue(), f"p{next(_numbers)}-", alternative)


def _embedded(document: str, prefix: str, alternative: str) -> str:
    """The drawing with names and colours of its own page; what users wrote in it stays as it is."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)

    def page_tag(tag: re.Match[str]) -> str:
        named = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\1{prefix}", tag[0])
        return re.sub(r"#[01][0-9a-f]{5}", lambda color: css(color[0]) if color[0] in VARIABLES else color[0], named)

    head, _, rest = body.partition(">")
    (view_box,) = re.findall(r'viewBox="[^"]+"', head)
    said = alternative.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    links = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    rest = re.sub(r"<[^<>]+>", page_tag, rest)
    return re.sub(r"\n\s*", "\n", f'<svg {view_box} {links} role="img" aria-label="{said}">{rest}').strip()
