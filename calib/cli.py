"""The command line: commands and exit codes, no logic."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from calib.config import experiment_schema, load_experiment, load_limits
from calib.errors import InputError
from calib.gate import evaluate, exit_code
from calib.pipeline import run_experiment
from calib.progress import Progress, Silent
from calib.results import RunResult, RunVerdict
from calib.rundir import load_result
from calib.terminal import TerminalProgress, output_console, print_result, print_verdict

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
_COMMANDS = ("run", "gate", "schema")
_BAD_INPUT = 2
_INTERRUPTED = 130

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a config field.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")]


@app.command()
def run(config: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Calibrate, build, compare and judge what the YAML file says; write the report.

    Exit code: 0 pass, 1 fail, 2 bad input, 3 no evidence, 130 interrupted.
    """
    experiment = load_experiment(config, overrides or ())
    console = Console(stderr=True)
    progress: Progress = TerminalProgress(console) if console.is_terminal else Silent()
    try:
        finished = run_experiment(experiment, progress)
    except KeyboardInterrupt:
        console.print("interrupted; finished stages are kept", highlight=False)
        raise typer.Exit(_INTERRUPTED) from None
    report = finished.directory / "report.html"
    if as_json:
        _print_json(finished.result.verdict, finished.result, report)
    else:
        out = output_console()
        print_result(out, finished.result)
        out.print(f"\n{report}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(exit_code(finished.result.verdict.verdict))


@app.command()
def gate(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's directory.")],
    limits: Annotated[
        Path | None, typer.Option(help="YAML with limits; the run's own if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a finished run again, by other limits. The run itself is not changed."""
    result = load_result(run_path)
    verdict = result.verdict if limits is None else evaluate(result, load_limits(limits))
    if as_json:
        _print_json(verdict, result, run_path)
    else:
        print_verdict(output_console(), verdict)
    raise typer.Exit(exit_code(verdict.verdict))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the YAML, for editors."""
    sys.stdout.write(json.dumps(experiment_schema(), indent=2) + "\n")


def _print_json(verdict: RunVerdict, result: RunResult, where: Path) -> None:
    line = {
        "verdict": verdict.verdict,
        "candidate": verdict.chosen,
        "reason": verdict.reason,
        "experiment": result.experiment,
        "run_id": result.run_id,
        "report": str(where),
    }
    sys.stdout.write(json.dumps(line) + "\n")


def main(default_command: str | None = None) -> None:
    """Run the command line; every mistake of the user is one message and exit code 2.

    Args:
        default_command: taken when the first argument names no command.
    """
    arguments = sys.argv[1:]
    if default_command and arguments and not {arguments[0]} & {*_COMMANDS, "--help"}:
        arguments = [default_command, *arguments]
    try:
        app(args=arguments, prog_name="calib")
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(_BAD_INPUT)
