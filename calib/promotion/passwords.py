"""Passwords in the URIs of places: used, never shown."""

import re

_PASSWORD = re.compile(r"(://[^/@:\s]*):[^@/\s]*@")


def without_passwords(text: str) -> str:
    """A text in which no URI shows its password."""
    return _PASSWORD.sub(r"\1:***@", text)
