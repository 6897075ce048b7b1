"""How the page writes numbers, verdicts and the addresses of its own parts."""

import math
from urllib.parse import quote

NOTHING = "—"
_MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "≈", "NO_EVIDENCE": "?"}


def number(value: float | None, digits: int = 4) -> str:
    """A number to some significant digits; a dash where there is no evidence."""
    if value is None:
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"  # noqa: RUF001
    return f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def megabytes(value: float | None, digits: int = 4) -> str:
    """Bytes in MB."""
    return NOTHING if value is None else number(value / 1e6, digits)


def verdict_words(verdict: str) -> str:
    """A verdict with its sign: never told by a colour alone."""
    words = verdict.replace("_", " ").capitalize()
    return f"{_MARKS.get(verdict, '?')} {words}"


def anchor(kind: str, *names: str) -> str:
    """The id of a part of the page, from names that may hold anything: plain ASCII, no blank.

    A link to it is `#` and the id, as it is.
    """
    return ":".join([kind, *(quote(name, safe="") for name in names)])
