"""matplotlib's figures as SVG that stands in a page: its colours, its policy, two widths.

A picture that is shrunk to a phone's width has labels that nobody can read, so each plot is drawn
twice, and the page's style shows the one that fits. The page's policy forbids style attributes:
they become attributes of their own.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#808890"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours (2008): told apart by people who see few. The page has its own values."""
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

_WIDTHS_INCHES = {"wide": 7.25, "narrow": 3.55}
_NAMESPACE = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FONT = re.compile(r"(?:(?P<weight>bold|\d+) )?(?P<size>[\d.]+px) (?P<family>.+)")
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def drawn(title: str, height_inches: float, draw: Callable[[Axes, bool], None]) -> Markup:
    """A plot for wide and for narrow screens; the same bytes for the same calls.

    Args:
        title: read aloud in its place.
        height_inches: of both.
        draw: fills the axes; its second argument is whether they are narrow.
    """
    return Markup("").join(
        _wrapped(name, _svg(title, name, height_inches, draw)) for name in _WIDTHS_INCHES
    )


def series_colour(index: int) -> str:
    """The colour of the index-th line."""
    return SERIES[index % len(SERIES)]


def shortened(name: str, length: int, *, keep_end: bool = False) -> str:
    """A name that fits, without control characters; of a tensor the end tells most."""
    name = _UNPRINTABLE.sub("�", name)
    if len(name) <= length:
        return name
    return f"…{name[1 - length :]}" if keep_end else f"{name[: length - 1]}…"


def finish(axes: Axes, columns: int) -> None:
    """A grid, and a legend above with so many columns, four at most."""
    axes.grid(axis="y", color=INK, alpha=0.25, lw=0.6)
    axes.legend(
        ncols=max(1, min(columns, 4)),
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
    )


def _wrapped(name: str, svg: Markup) -> Markup:
    return Markup('<div class="plot {}">{}</div>').format(name, svg)


def _svg(title: str, name: str, height: float, draw: Callable[[Axes, bool], None]) -> Markup:
    buffer = io.BytesIO()
    # A page has many pictures: the salt keeps the ids of their parts apart.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{name} {title}"}):
        figure = Figure(figsize=(_WIDTHS_INCHES[name], height), layout="constrained")
        axes = figure.subplots()
        draw(axes, name == "narrow")
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        # Not `savefig`, which lays everything out twice.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None})
    return svg_for_page(buffer.getvalue(), title)


def svg_for_page(content: bytes, title: str) -> Markup:
    """Matplotlib's SVG as part of a page.

    Args:
        content: what `savefig` wrote.
        title: read aloud in its place.
    """
    root = ET.fromstring(content)  # noqa: S314 - our own
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_NAMESPACE}metadata", f"{_NAMESPACE}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        _set_attributes(element)
    root.attrib = {
        "role": "img",
        "aria-label": title,
        "viewBox": root.attrib["viewBox"],
        "width": root.attrib["width"],
        "height": root.attrib["height"],
        # What matplotlib's own <style> says of all elements.
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - parsed and written anew


def _set_attributes(element: ET.Element) -> None:
    """Style as attributes, and the page's colours in place of ours."""
    given = element.attrib.pop("style", "")
    if element.tag == "g":
        element.attrib.pop("id", None)  # nothing refers to it
    if not (element.tag == "text" or (element.text or "").strip()):
        element.text = None
    element.tail = None
    if _LINK in element.attrib:
        element.attrib["href"] = element.attrib.pop(_LINK)
    for part in given.split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        font = _FONT.fullmatch(value) if name == "font" else None
        if font is not None:
            element.set("font-size", font["size"])
        elif name and name != "font":
            element.set(name, value)
    for name in ("fill", "stroke"):
        colour = element.attrib.get(name, "").lower()
        if colour == INK:
            element.set(name, "currentColor")
        elif colour in SERIES:
            element.set(name, f"var(--c{SERIES.index(colour)})")
