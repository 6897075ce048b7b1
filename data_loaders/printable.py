"""Text that others wrote, made safe to show: one line, no control characters, not endless."""

import re
import unicodedata

LONGEST = 1000
"""Characters of one part of a message."""

_SPACES = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_NOT_ASCII = re.compile("[^ -~]")


def visible(text: str) -> str:
    r"""The text with every control character but a line's end shown, as \x1b for one.

    Beside those that a terminal obeys these are what reorders or hides what is read, and surrogates
    (of file names that are no UTF-8), which no encoding takes.
    """
    return "\n".join(_NOT_ASCII.sub(_escaped, line) for line in text.split("\n"))


def printable(text: str) -> str:
    """The text in one line of at most `LONGEST` characters, without control characters."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text):,} characters)"
    return _NOT_ASCII.sub(_escaped, _SPACES.sub(" ", text))


def _escaped(found: re.Match[str]) -> str:
    char, code = found[0], ord(found[0])
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
