"""`calib audit`, `calib compare` and `calib history`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from calib.commands.options import AsJson, Overrides, open_progress
from calib.config import load_experiment
from calib.endings import faults_logged_in
from calib.report.run_diff import write_comparison, write_history
from calib.report.samples import read_samples
from calib.results import Outcome, Severity
from calib.run_diff import COLUMNS, compare_runs, history
from calib.rundir import load_result, load_results
from calib.stages.audit import run_audit
from calib.terminal import output_console
from calib.terminal.audit import print_audit
from calib.terminal.runs import print_comparison, print_history

Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page as well.")]
_EXIT_CODES = {Outcome.NO_WORSE: 0, Outcome.WORSE: 1, Outcome.NO_EVIDENCE: 3}


def audit(config: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the calibration data, before anything is quantized.

    Exit code: 0 no error among the findings, 1 an error, 2 bad input.
    """
    experiment = load_experiment(config, overrides or ())
    progress = open_progress()
    with faults_logged_in(experiment.output.reports):
        found = run_audit(experiment, progress)
    if as_json:
        _print_json(found)
    else:
        print_audit(output_console(), found)
    raise typer.Exit(int(found.worst is Severity.ERROR))


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="The run that is known.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run in question.")],
    candidate: Annotated[
        str | None, typer.Option(help="The candidate to compare; what the verdicts speak of.")
    ] = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """What changed between two finished runs: metrics, tails, thresholds, precisions.

    Exit code: 0 no worse by more than chance, 1 worse, 2 bad input, 3 nothing to compare by.
    """
    results = load_result(first), load_result(second)
    samples = read_samples(_folder(first), COLUMNS), read_samples(_folder(second), COLUMNS)
    found = compare_runs(*results, samples, candidate)
    if html is not None:
        write_comparison(found, html)
    if as_json:
        _print_json(found)
    else:
        print_comparison(output_console(), found)
    raise typer.Exit(_EXIT_CODES[found.outcome])


def history_command(
    experiment: Annotated[str, typer.Argument(help="Its name, or the folder of its runs.")],
    reports: Annotated[Path, typer.Option(help="Parent of the experiments' folders.")] = Path(
        "reports"
    ),
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """The runs of an experiment, the oldest first, with the trend of each figure."""
    folder = Path(experiment) if Path(experiment).is_dir() else reports / experiment
    results, unreadable = load_results(folder)
    found = history(folder.resolve().name, results, unreadable)
    if html is not None:
        write_history(found, html)
    if as_json:
        _print_json(found)
    else:
        print_history(output_console(), found)


def _folder(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _print_json(found: BaseModel) -> None:
    sys.stdout.write(found.model_dump_json() + "\n")


COMMANDS: dict[str, Callable[..., None]] = {
    "audit": audit,
    "compare": compare,
    "history": history_command,
}


def register(app: typer.Typer) -> None:
    """Make the commands known."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
