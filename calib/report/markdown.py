"""Text of others within Markdown."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_loaders.printable import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&@$-])")
_MARKUP = re.compile(r"([\\`*{}\[\]|<>~&@$]|(?<![^\W_])_|_(?![^\W_])|^[#!=]|^[-+](?![\w.]))")
"""An underscore between letters or digits is none, and some signs only begin a line."""
_LIST = re.compile(r"^(\d+)([.)])(?=\s|$)")


def inert(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", visible(text).replace("\n", " "))


def inert_words(text: str) -> str:
    """The same for a text that people also read as it is written: only what would be markup.

    The text stands within a line or begins one, a list's item or a table's cell.
    """
    shown = visible(text).replace("\n", " ").strip()
    return _LIST.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", shown))


def markdown_environment() -> Environment:
    """Templates of Markdown: every value that they are given is inert."""
    return Environment(
        loader=PackageLoader("calib.report"),
        autoescape=False,  # noqa: S701 - HTML's escapes are not Markdown's; `finalize` has these
        finalize=lambda value: inert_words(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
