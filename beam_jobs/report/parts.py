"""What the report is made of: sections of pictures, tables and notes, as values; a template shows each kind."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

Tone = Literal["", "good", "warn", "bad", "quiet"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        bar: length of a bar behind the text, 0 to 1.
        start: where the bar begins, 0 to 1.
        wide: holds words that may break over lines.
    """

    text: str
    tone: Tone = ""
    bar: float | None = None
    start: float = 0.0
    wide: bool = False

    @property
    def bar_style(self) -> str:
        """The bar as a CSS position."""
        width = min(max(self.bar or 0.0, 0.0), 1.0)
        return f"left:{100 * min(self.start, 1.0):.2f}%;width:{max(100 * width, 0.4 if width else 0):.2f}%"


@dataclasses.dataclass(frozen=True)
class Header:
    """A column of a table.

    Attributes:
        numeric: its cells are aligned right.
    """

    text: str
    numeric: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        folded: what to click on to see it; print leaves it out.
    """

    headers: tuple[Header, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: str | None = None
    note: str = ""
    kind: ClassVar[str] = "table"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with its words: no reader needs to see it to know what it says.

    Attributes:
        svg: the drawing, empty where the words must do.
        alternative: one honest sentence with the numbers.
        table: the numbers behind it.
    """

    title: str
    svg: str
    alternative: str
    subtitle: str = ""
    table: Table | None = None
    tone: Tone = ""
    kind: ClassVar[str] = "picture"


@dataclasses.dataclass(frozen=True)
class Key:
    """A line of a legend.

    Attributes:
        mark: CSS class of its mark.
        color: CSS colour of its mark.
    """

    text: str
    color: str
    mark: Literal["line", "dash", "area", "dot", "ring"] = "line"


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Small multiples with one legend."""

    pictures: tuple[Picture, ...]
    legend: tuple[Key, ...] = ()
    kind: ClassVar[str] = "pictures"


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence, or several with a mark before each."""

    lines: tuple[str, ...]
    tone: Tone = ""
    kind: ClassVar[str] = "note"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that a reader looks for first."""

    name: str
    value: str
    remark: str = ""
    tone: Tone = ""


@dataclasses.dataclass(frozen=True)
class Figures:
    """A row of numbers."""

    figures: tuple[Figure, ...]
    kind: ClassVar[str] = "figures"


@dataclasses.dataclass(frozen=True)
class Commands:
    """Command lines to copy."""

    lines: tuple[str, ...]
    kind: ClassVar[str] = "commands"


@dataclasses.dataclass(frozen=True)
class Beside:
    """Two columns where the page is wide enough, the first one as wide as a picture; one below the other elsewhere."""

    left: tuple["Block", ...]
    right: tuple["Block", ...]
    kind: ClassVar[str] = "beside"


Block = Table | Picture | Pictures | Note | Figures | Commands | Beside


@dataclasses.dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        name: its anchor.
        lead: what it says, in one sentence.
    """

    name: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = ()
    tone: Tone = ""


Row = tuple[Cell | str, ...]


def table(headers: Sequence[str], rows: Iterable[Row], numeric: Iterable[str] = (), **settings: str | None) -> Table:
    """A table of cells, where a plain text will do for most of them.

    Args:
        numeric: headers of the columns that are aligned right.
    """
    right = set(numeric)
    cells = tuple(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows)
    return Table(tuple(Header(text, text in right) for text in headers), cells, **settings)  # type: ignore[arg-type]
