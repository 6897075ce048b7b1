"""The command line: commands and exit codes, no logic."""

import json
import logging
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from calib.commands import (
    audit,
    cache,
    calibrate,
    doctor,
    evidence,
    plan,
    promote,
    report,
    sweep,
)
from calib.commands.options import AsJson, Jobs, Overrides, open_progress, print_line
from calib.config import experiment_schema, load_experiment, load_limits
from calib.endings import Interruption, LoggedError, ending_of, faults_logged_in, terminable
from calib.gate.judging import evaluate
from calib.graph.load import read_model
from calib.graph.tensorrt_rules import findings
from calib.pipeline import run_experiment
from calib.report import find_browser
from calib.results import RunResult, RunVerdict
from calib.rundir import load_result
from calib.terminal import (
    complain,
    output_console,
    print_result,
    print_verdict,
)


class _Commands(TyperGroup):
    """Commands whose errors come out as they are: typer makes other exit codes of some."""

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup.invoke`."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            raise (Interruption() if interrupted else LoggedError(None)) from error


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__,
)
app.add_typer(cache.app, name="cache")
calibrate.register(app)
audit.register(app)
evidence.register(app)
promote.register(app)
app.command("doctor")(doctor.doctor_command)
app.command("plan")(plan.plan_command)
app.command("report")(report.report_command)
app.command("sweep")(sweep.sweep_command)
_COMMANDS = (
    "run",
    "cache",
    "gate",
    "report",
    "check",
    "doctor",
    "plan",
    "schema",
    "sweep",
    *calibrate.COMMANDS,
    *audit.COMMANDS,
    *evidence.COMMANDS,
    *promote.COMMANDS,
)


class BackendKind(StrEnum):
    """The backends by the name that the config gives them."""

    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


@app.command()
def run(
    config: Path,
    overrides: Overrides = None,
    backend: Annotated[
        BackendKind | None, typer.Option(help="Take this backend, with its defaults.")
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    pdf: report.Pdf = False,
) -> None:
    """Calibrate, build, compare and judge what the YAML file says; write the report.

    Exit code: 0 pass, 1 fail, 2 bad input, 3 no evidence, 4 inconclusive,
    70 a fault of calib, 130 interrupted, 143 terminated.
    """
    if pdf:
        find_browser()  # before the work, not after it
    chosen = [f"backend={{kind: {backend.value}}}"] if backend else []
    experiment = load_experiment(config, [*chosen, *(overrides or ())])
    with faults_logged_in(experiment.output.reports):
        finished = run_experiment(experiment, open_progress(), jobs)
    page = finished.directory / "report.html"
    if pdf:
        report.printed(page)
    if as_json:
        _print_json(finished.result.verdict, finished.result, page)
    else:
        out = output_console()
        print_result(out, finished.result)
        out.print(f"\n{page}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(finished.result.verdict.verdict.exit_code)


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
    raise typer.Exit(verdict.verdict.exit_code)


@app.command()
def check(model: Path) -> None:
    """Say what TensorRT would refuse, change or not run in INT8 in an ONNX file.

    Exit code: 0 nothing refused, 1 something would be.
    """
    found = findings(read_model(model))
    out = output_console()
    for finding in found:
        mark = "refused" if finding.refused else "warning"
        line = f"{mark}: node {finding.node}: {finding.problem}. {finding.fix}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(f"{model}: {len(found)} findings", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(any(finding.refused for finding in found)))


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
    print_line(line)


def main(default_command: str | None = None) -> None:
    """Run the command line; whatever goes wrong is one message and an exit code.

    Args:
        default_command: taken when the first argument names no command.
    """
    arguments = sys.argv[1:]
    if default_command and arguments and not {arguments[0]} & {*_COMMANDS, "--help"}:
        arguments = [default_command, *arguments]
    # What libraries log and warn of is for their developers; what matters is in our messages.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(capture=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An encoding without a sign of ours is no reason to end without a verdict.
            stream.reconfigure(errors="backslashreplace")
    try:
        with terminable():
            app(args=arguments, prog_name="calib")
    except (Exception, KeyboardInterrupt) as error:
        ending = ending_of(error)
        complain(ending.message)
        sys.exit(ending.code)
