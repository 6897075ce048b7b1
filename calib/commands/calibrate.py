"""`calib sensitivity`, `calibrate`, `merge`: what calibration samples tell, without a verdict."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from calib.calibrators.statistics_file import merge_files, save_statistics
from calib.commands.options import AsJson, Jobs, Overrides, open_progress, print_line
from calib.config import load_experiment
from calib.endings import faults_logged_in
from calib.errors import ConfigError
from calib.pipeline import run_calibration, run_sensitivity
from calib.report import write_sensitivity
from calib.stages.shard import Shard
from calib.terminal import output_console, say
from calib.terminal.sensitivity import print_sensitivity

COMMANDS = ("sensitivity", "calibrate", "merge")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sensitivity")(sensitivity)
    app.command("calibrate")(calibrate_command)
    app.command("merge")(merge)


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
        found = run_sensitivity(experiment, open_progress())
    if csv is not None:
        write_sensitivity(found, csv)
    if as_json:
        print_line(json.loads(found.model_dump_json()))
    else:
        print_sensitivity(output_console(), found)


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
        found = run_calibration(experiment, open_progress(), _shard(shard), output, jobs)
    say(f"{output}: {found.samples} samples, {len(found.parts)} tensors")


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


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError("--shard", "is no shard", got=text, expected="K/N with 1 <= K <= N")
    return Shard(int(match[1]), int(match[2]))
