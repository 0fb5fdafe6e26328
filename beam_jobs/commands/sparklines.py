"""A series of numbers as one line of text: how it went, at a glance, where there is no room for a picture."""

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ABSENT = "·"


def sparkline(values: Sequence[float | None]) -> str:
    """A block for each number, between the least and the greatest of them; a dot where there is none.

    Numbers that are all the same lie in the middle: there is no up and down to show.
    """
    known = [value for value in values if value is not None]
    if not known:
        return _ABSENT * len(values)
    low, span = min(known), max(known) - min(known)
    top = len(_BLOCKS) - 1
    return "".join(
        _ABSENT if value is None else _BLOCKS[round((value - low) / span * top) if span else top // 2]
        for value in values
    )
