"""`calib doctor`: what this machine can do; with --health, whether calib can work here at all."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calib.commands.options import print_line
from calib.config import OutputSpec
from calib.doctor import diagnose
from calib.health import health
from calib.terminal import output_console, print_diagnosis, say

_STORE = OutputSpec().store


def doctor_command(
    healthy: Annotated[
        bool,
        typer.Option(
            "--health",
            help="Only try, in a moment, what every run needs. Exit code: 0 healthy, 1 not.",
        ),
    ] = False,
    store: Annotated[
        Path, typer.Option(metavar="FOLDER", help="With --health: the config's output.store.")
    ] = _STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Say what each backend can do on this machine, and what would help."""
    if healthy:
        _print_health(store, as_json)
    elif as_json:
        print_line(asdict(diagnose()))
    else:
        print_diagnosis(output_console(), diagnose())


def _print_health(store: Path, as_json: bool) -> None:
    checks = health(store)
    well = all(check.ok for check in checks)
    if as_json:
        content = {"healthy": well, "checks": [asdict(check) for check in checks]}
        print_line(content)
    else:
        for check in checks:
            say(f"{'ok' if check.ok else 'FAILED':6}  {check.name:7}  {check.found}")
    raise typer.Exit(int(not well))
