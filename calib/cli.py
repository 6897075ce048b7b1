"""The command line: commands and exit codes, no logic."""

import json
import logging
import re
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from calib import (
    cli_audit,
    cli_cache,
    cli_doctor,
    cli_evidence,
    cli_plan,
    cli_promote,
    cli_report,
    cli_sweep,
)
from calib.calibrators.statistics_file import merge_files, save_statistics
from calib.config import experiment_schema, load_experiment, load_limits
from calib.endings import Interruption, LoggedError, ending_of, faults_logged_in, terminable
from calib.errors import ConfigError
from calib.gate.judging import evaluate
from calib.graph.load import read_model
from calib.graph.tensorrt_rules import findings
from calib.pipeline import run_calibration, run_experiment, run_sensitivity
from calib.progress import Progress, Silent
from calib.report import find_browser, write_sensitivity
from calib.results import RunResult, RunVerdict
from calib.rundir import load_result
from calib.stages.shard import Shard
from calib.terminal import (
    TerminalProgress,
    complain,
    error_console,
    output_console,
    print_result,
    print_verdict,
    say,
)
from calib.terminal_sensitivity import print_sensitivity


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
app.add_typer(cli_cache.app, name="cache")
cli_audit.register(app)
cli_evidence.register(app)
cli_promote.register(app)
app.command("doctor")(cli_doctor.doctor_command)
app.command("plan")(cli_plan.plan_command)
app.command("report")(cli_report.report_command)
app.command("sweep")(cli_sweep.sweep_command)
_COMMANDS = (
    "run",
    "calibrate",
    "merge",
    "cache",
    "gate",
    "report",
    "check",
    "doctor",
    "plan",
    "schema",
    "sensitivity",
    "sweep",
    *cli_audit.COMMANDS,
    *cli_evidence.COMMANDS,
    *cli_promote.COMMANDS,
)


class BackendKind(StrEnum):
    """The backends by the name that the config gives them."""

    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


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


@app.command()
def run(
    config: Path,
    overrides: Overrides = None,
    backend: Annotated[
        BackendKind | None, typer.Option(help="Take this backend, with its defaults.")
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    pdf: cli_report.Pdf = False,
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
        finished = run_experiment(experiment, _progress(), jobs)
    report = finished.directory / "report.html"
    if pdf:
        cli_report.printed(report)
    if as_json:
        _print_json(finished.result.verdict, finished.result, report)
    else:
        out = output_console()
        print_result(out, finished.result)
        out.print(f"\n{report}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(finished.result.verdict.verdict.exit_code)


@app.command()
def sensitivity(
    config: Path,
    overrides: Overrides = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the groups as a table, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Where INT8 loses accuracy: each group of nodes alone, by activations and by weights.

    Only calibration samples are used. One that was broken off goes on where it was.
    """
    experiment = load_experiment(config, overrides or ())
    with faults_logged_in(experiment.output.reports):
        found = run_sensitivity(experiment, _progress())
    if csv is not None:
        write_sensitivity(found, csv)
    if as_json:
        _print_line(json.loads(found.model_dump_json()))
    else:
        print_sensitivity(output_console(), found)


@app.command("calibrate")
def calibrate_command(
    config: Path,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The statistics file to write.")
    ],
    overrides: Overrides = None,
    shard: Annotated[
        str, typer.Option(metavar="K/N", help="Only the K-th of N parts of the batches.")
    ] = "1/1",
    jobs: Jobs = None,
) -> None:
    """Observe the calibration data and write the statistics, for `calibration.statistics`.

    With --shard the work can be split over processes and machines; `calib merge` puts the parts
    together, to the bytes that one process writes.
    """
    experiment = load_experiment(config, overrides or ())
    with faults_logged_in(experiment.output.reports):
        found = run_calibration(experiment, _progress(), _shard(shard), output, jobs)
    say(f"{output}: {found.samples} samples, {len(found.parts)} tensors")


@app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="FILE...", help="All shards' files.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The statistics file to write.")
    ],
) -> None:
    """Put the shards of `calib calibrate --shard` together, exactly."""
    merged = merge_files(shards)
    save_statistics(output, merged)
    held, of = merged.shards
    missing = "" if merged.is_whole else f"; {of - len(held)} of {of} shards are still missing"
    say(f"{output}: {merged.samples} samples, {len(merged.parts)} tensors{missing}")


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


def _progress() -> Progress:
    console = error_console()
    return TerminalProgress(console) if console.is_terminal else Silent()


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError("--shard", "is no shard", got=text, expected="K/N with 1 <= K <= N")
    return Shard(int(match[1]), int(match[2]))


def _print_json(verdict: RunVerdict, result: RunResult, where: Path) -> None:
    line = {
        "verdict": verdict.verdict,
        "candidate": verdict.chosen,
        "reason": verdict.reason,
        "experiment": result.experiment,
        "run_id": result.run_id,
        "report": str(where),
    }
    _print_line(line)


def _print_line(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")


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
