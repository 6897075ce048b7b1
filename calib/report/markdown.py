"""Text of others within Markdown."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_loaders.printable import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&@$-])")


def inert(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", visible(text).replace("\n", " "))


def markdown_environment() -> Environment:
    """Templates of Markdown: every value that they are given is inert."""
    return Environment(
        loader=PackageLoader("calib.report"),
        autoescape=False,  # noqa: S701 - HTML's escapes are not Markdown's; `finalize` has these
        finalize=lambda value: inert(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
