"""Tables as values: one macro draws them all, so all fold on a phone and read aloud alike."""

import json
import math
from dataclasses import dataclass

from calib.report.words import NOTHING, number

_ON_TABLET_MAX = 8
_ON_PAPER_MAX = 13


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head.

    Attributes:
        title: what stands in it.
        numeric: set flush right and sorted by value.
        name: set in the type of code.
        choice: a few values that recur: a filter of its own where the table is interactive.
    """

    title: str
    numeric: bool = False
    name: bool = False
    choice: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        value: what a numeric column sorts by; None sorts last.
        href: where it leads, `#…` only.
        tag: the class of a small coloured label around the text; "" for none.
        notes: smaller lines below.
        image: a PNG in base64; only where a table has its last column below.
    """

    text: str
    value: float | None = None
    href: str = ""
    tag: str = ""
    notes: tuple[str, ...] = ()
    image: str = ""

    @property
    def key(self) -> str:
        """`value` for the page's script; "" if there is none."""
        if self.value is None or math.isnan(self.value):
            return ""
        return f"{self.value:.6g}".replace("inf", "Infinity")


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `mark` is chosen, worst or nothing."""

    cells: tuple[Cell, ...]
    id: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        interactive: whether it can be sorted and searched where scripts run.
        below: whether the last column stands below the others, across the row.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    interactive: bool = False
    below: bool = False

    @property
    def width(self) -> str:
        """A class: many columns are folded on a tablet already, very many on paper, too."""
        shown = len(self.columns) - self.below
        return "vast" if shown > _ON_PAPER_MAX else "many" if shown > _ON_TABLET_MAX else ""

    @property
    def labels_css(self) -> str:
        """Rules that put each column's title before its cells where rows are folded."""
        return "".join(
            f"#{self.id} tr>:nth-child({at}){{--label:{_css_string(column.title)}}}"
            for at, column in enumerate(self.columns, start=1)
        )


def figure(value: float | None, digits: int = 4, text: str | None = None) -> Cell:
    """A numeric cell; `text` where it is not written as `number` would."""
    return Cell(number(value, digits) if text is None else text, value)


def fixed(value: float | None, form: str = "%.2f") -> Cell:
    """A numeric cell with a fixed number of decimals."""
    return Cell(NOTHING if value is None else form % value, value)


def _css_string(text: str) -> str:
    """A CSS string that ends neither itself nor its <style>."""
    return '"' + "".join(_css_character(c) for c in text) + '"'


def _css_character(character: str) -> str:
    plain = character.isalnum() or character in " ,.%()/-+±"
    return character if plain else f"\\{ord(character):x} "


def script_json(value: object) -> str:
    """JSON that can stand in a <script> and in old parsers of JavaScript: no tag, no line end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate is no text that a file could hold.
    text = text.encode("utf-8", "replace").decode("utf-8")
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
