"""Pages without scripts, and the surroundings of all templates."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calib.report.assets import asset, policy
from calib.report.words import anchor, megabytes, number, verdict_words


def environment() -> Environment:
    """Templates escape what they are given, and a name that they lack is an error."""
    found = Environment(
        loader=PackageLoader("calib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["number"] = number
    found.filters["megabytes"] = megabytes
    found.filters["verdict"] = verdict_words
    found.globals["anchor"] = anchor
    return found


def plain_page(template: str, styles: tuple[str, ...] = ("report.css",), **values: Any) -> str:
    """One self-contained page; its template has `style` and `policy`, too."""
    style = "\n".join(map(asset, styles))
    return (
        environment()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704 - our own
            policy=policy([], [style]),
            **values,
        )
    )
