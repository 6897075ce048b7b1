"""Options that several commands have, and what they all do with a terminal."""

import json
import sys
from typing import Annotated, Any

import typer

from calib.progress import Progress, Silent
from calib.terminal import TerminalProgress, error_console

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a config field.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        metavar="N",
        help="Workers that share the passes over data, instead of `execution.workers`; the "
        "results are the same.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")]


def open_progress() -> Progress:
    """A bar where somebody looks on; else nothing."""
    console = error_console()
    return TerminalProgress(console) if console.is_terminal else Silent()


def print_line(content: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(content) + "\n")
