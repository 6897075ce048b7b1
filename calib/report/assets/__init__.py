"""The page's script, styles and libraries, and the policy that lets these alone run."""

import base64
import hashlib
import re
from collections.abc import Iterable
from importlib.resources import files

from markupsafe import Markup

_SOURCE_MAP = re.compile(r"(//# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+ \*/)\s*$")
SCRIPTS = ("tabulator.min.js", "uplot.min.js", "report.js")
STYLES = ("tabulator.min.css", "uplot.min.css", "report.css")
LICENCES = {"Tabulator": "LICENSE.tabulator.txt", "uPlot": "LICENSE.uplot.txt"}


def asset(name: str) -> str:
    """A file of this folder as it can stand in a page: no source map, no line end but newline.

    Raises:
        ValueError: if it would end the element that it stands in.
    """
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    text = _SOURCE_MAP.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if re.search(r"</(script|style)", text, re.IGNORECASE):
        raise ValueError(f"{name} would end its own element")
    return text


def policy(scripts: Iterable[str], styles: Iterable[str]) -> Markup:
    """A Content-Security-Policy that lets these texts run, and nothing else load or run."""
    directives = [
        "default-src 'none'",
        _allowed("script-src", scripts),
        _allowed("style-src", styles),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return Markup("; ".join(directives))  # noqa: S704 - keywords and hashes


def _allowed(directive: str, texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    return " ".join([directive, *(hashes or ["'none'"])])
