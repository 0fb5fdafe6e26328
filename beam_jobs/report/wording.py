"""Numbers as a reader meets them: with a unit, with the digits that they deserve, with a word where they are none."""

import math
from collections.abc import Sequence
from typing import Any

from beam_jobs.commands.tables import bytes_text, seconds_text
from beam_jobs.published_axes import number_text

__all__ = [
    "bytes_text",
    "count_text",
    "fraction_text",
    "join_words",
    "number",
    "seconds_text",
    "shortened",
    "value_text",
]


def count_text(count: float | None, one: str = "", many: str | None = None) -> str:
    """A count with its noun, such as `1,024 rows`."""
    if count is None:
        return "unknown"
    noun = one if count == 1 else (many or f"{one}s") if one else ""
    return f"{count:,.0f} {noun}".strip()


def number(value: float | None, digits: int = 4) -> str:
    """A measured number."""
    if value is None or not math.isfinite(value):
        return "–"
    if value and not 1e-4 <= abs(value) < 1e7:
        text = f"{value:.{digits - 1}g}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return text.replace("-", "−", 1) if value < 0 else text


def fraction_text(part: float | None) -> str:
    """A fraction in per cent; a small one never reads as none, nor one short of all as all."""
    if part is None:
        return "–"
    percent = 100 * part
    if percent == 0 or percent == 100:
        return f"{percent:.0f} %"
    if percent < 0.01:
        return "under 0.01 %"
    if 99.99 < percent < 100:
        return "over 99.99 %"
    return f"{percent:.2f} %" if percent < 10 else f"{percent:.1f} %" if percent < 100 else f"{percent:,.0f} %"


def value_text(value: Any) -> str:
    """A value of a table."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        return f"[{', '.join(value_text(part) for part in value)}]"
    if isinstance(value, float):
        return number_text(value) if value == float(f"{value:g}") else number(value, 6)
    return str(value)


def shortened(text: str, length: int) -> str:
    """The text, cut where it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def join_words(words: Sequence[str], most: int = 3) -> str:
    """`a, b and c`, with a count of those left out."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most:,} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"
