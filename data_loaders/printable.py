"""Text that others wrote, made safe to show: one line, no control characters, not endless."""

import re

LONGEST = 1000
"""Characters of one part of a message."""

_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# C0 and C1 controls (a terminal obeys them), bidirectional overrides (they reorder what is read),
# and surrogates (file names that are no UTF-8; no encoding takes them).
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""The text with every control character but a line's end shown as \x1b is."""
    return "\n".join(_UNPRINTABLE.sub(_escaped, line) for line in text.split("\n"))


def printable(text: str) -> str:
    """The text in one line of at most `LONGEST` characters, without control characters."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text):,} characters)"
    return _UNPRINTABLE.sub(_escaped, _SPACES.sub(" ", text))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
