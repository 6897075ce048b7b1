"""`calib sweep`: many settings of one experiment, and the front of the best."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calib.commands.options import AsJson, Overrides, print_line
from calib.endings import faults_logged_in
from calib.sweep.planning import plan_of
from calib.sweep.space import read_base
from calib.sweep.story import run_sweep
from calib.sweep.study import require_optuna
from calib.sweep.telling import Quiet, Telling
from calib.terminal import error_console, output_console, say
from calib.terminal.sweep import TerminalSweep, print_sweep


def sweep_command(
    config: Path,
    overrides: Overrides = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            metavar="N",
            help="Trials computed side by side; each is timed alone on the machine.",
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be tried and what it costs.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the trials that are known.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try the settings of `sweep.space`, and say which is fast and accurate enough.

    A sweep that was broken off goes on where it was. Exit code: that of the best trial as one of
    all that were tried: 0 pass, 1 fail, 2 bad input, 3 no evidence, 4 inconclusive.
    """
    base = read_base(config, overrides or ())
    plan = plan_of(base)
    if dry_run and as_json:
        print_line(asdict(plan))
        return
    for line in plan.lines if not as_json else ():
        say(line)
    if dry_run:
        return
    require_optuna()
    console = error_console()
    telling: Telling = TerminalSweep(console) if console.is_terminal else Quiet()
    with faults_logged_in(base.experiment.output.reports):
        found = run_sweep(base, plan, telling, jobs, restart=restart)
    if as_json:
        page = {"report": str(found.folder / "sweep.html")}
        print_line({**page, **found.record.model_dump(mode="json")})
    else:
        say("")
        print_sweep(output_console(), found.record)
        best = ["best.yaml"] if found.record.winner is not None else []
        for name in ("sweep.html", "sweep.csv", *best):
            say(str(found.folder / name))
    raise typer.Exit(found.record.verdict.exit_code)
