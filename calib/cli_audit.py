"""`calib audit`, `calib compare` and `calib history`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from calib.config import load_experiment
from calib.endings import faults_logged_in
from calib.progress import Silent
from calib.results import Severity
from calib.stages.audit import run_audit
from calib.terminal import TerminalProgress, error_console, output_console
from calib.terminal_audit import print_audit

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a config field.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]


def audit(config: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the calibration data, before anything is quantized.

    Exit code: 0 no error among the findings, 1 an error, 2 bad input.
    """
    experiment = load_experiment(config, overrides or ())
    console = error_console()
    progress = TerminalProgress(console) if console.is_terminal else Silent()
    with faults_logged_in(experiment.output.reports):
        found = run_audit(experiment, progress)
    if as_json:
        sys.stdout.write(found.model_dump_json() + "\n")
    else:
        print_audit(output_console(), found)
    raise typer.Exit(int(found.worst is Severity.ERROR))


COMMANDS = {"audit": audit}


def register(app: typer.Typer) -> None:
    """Make the commands known."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
