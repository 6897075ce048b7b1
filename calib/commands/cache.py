"""`calib cache`: TensorRT's calibration caches, read, compared, written and moved to Q/DQ."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from calib.calibrators.cache_diff import Change, diff_caches
from calib.calibrators.trt_cache import (
    ALGORITHMS,
    CalibrationCache,
    cache_from_amax,
    is_usable,
    load_cache,
    version_number,
)
from calib.commands.options import AsJson, print_line
from calib.config import load_experiment
from calib.errors import ConfigError
from calib.report.cache import write_coverage_csv, write_diff_csv, write_diff_html
from calib.results import RunResult
from calib.rundir import load_result
from calib.stages.migrate import Migration, coverage_of, migrate
from calib.store import write_atomically
from calib.terminal import output_console, say

app = typer.Typer(no_args_is_help=True, help=__doc__)

CacheFile = Annotated[Path, typer.Argument(metavar="CACHE", help="A calibration cache.")]
_SHOWN = 20


@app.command()
def show(cache: CacheFile, as_json: AsJson = False) -> None:
    """Show a cache's header and scales."""
    found = load_cache(cache)
    if as_json:
        facts = {
            "tensorrt": found.tensorrt,
            "version": found.version,
            "algorithm": found.algorithm,
            "scales": found.scales,
            "unknown_rows": found.unknown,
        }
        print_line(facts)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tensor", overflow="fold")
    table.add_column("scale", justify="right")
    table.add_column("threshold", justify="right")
    for name, scale in found.scales.items():
        amax = f"{scale * 127:.6g}" if is_usable(scale) else "not usable"
        table.add_row(escape(name), f"{scale:.6g}", amax)
    say(_header(found))
    output_console().print(table)
    for row in found.unknown:
        say(f"not understood, kept: {row}")


def _header(cache: CalibrationCache) -> str:
    known = "" if cache.is_known else " (none of TensorRT's calibrators)"
    return f"TensorRT {cache.tensorrt}, {cache.algorithm}{known}, {len(cache.scales)} tensors"


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The cache that is known to work.")],
    after: Annotated[Path, typer.Argument(help="The cache in question.")],
    html: Annotated[Path | None, typer.Option(help="Write a page as well.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a table as well.")] = None,
) -> None:
    """Compare two caches tensor by tensor, the most dangerous change first.

    Exit code: 0 the same scales, 1 they differ.
    """
    one, two = load_cache(before), load_cache(after)
    rows = diff_caches(one, two)
    changed = [row for row in rows if row.change is not Change.SAME]
    # First, so that they are there even if whoever reads the terminal stops early.
    if csv is not None:
        write_diff_csv(rows, csv)
    if html is not None:
        write_diff_html(rows, before.name, after.name, html)
    for name, cache in ((before, one), (after, two)):
        say(f"{name}: {_header(cache)}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tensor", overflow="fold")
    for title in ("before", "after", "ratio"):
        table.add_column(title, justify="right")
    table.add_column("meaning", overflow="fold")
    for row in changed[:_SHOWN]:
        table.add_row(
            escape(row.tensor), _text(row.before), _text(row.after), _text(row.ratio), row.meaning
        )
    if changed:
        output_console().print(table)
    more = f", {len(changed) - _SHOWN} of them not shown" if len(changed) > _SHOWN else ""
    say(f"{len(changed)} of {len(rows)} tensors differ{more}")
    raise typer.Exit(1 if changed else 0)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's directory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The cache to write.")],
    calibrator: Annotated[str, typer.Option(help="Whose thresholds; see the report.")] = "",
    tensorrt: Annotated[str, typer.Option(help="The version that will read it.")] = "10.3.0",
    algorithm: Annotated[
        str, typer.Option(help="The calibrator class that will read it.")
    ] = "EntropyCalibration2",
) -> None:
    """Write a run's thresholds as a cache: TensorRT 8.6 to 10 builds with them, uncalibrated.

    TensorRT ignores a cache whose header is of another version or calibrator class.
    """
    result = load_result(run)
    name = calibrator or _judged_calibrator(result)
    if name not in result.calibration.calibrators:
        expected = ", ".join(result.calibration.calibrators)
        raise ConfigError("--calibrator", "was not in that run", got=name, expected=expected)
    if algorithm not in ALGORITHMS:
        raise ConfigError(
            "--algorithm", "is none of TensorRT's", got=algorithm, expected=", ".join(ALGORITHMS)
        )
    _check_version(tensorrt)
    others = result.calibration.others.get(name, {})
    amax = others | {a.tensor: a.amax[name] for a in result.calibration.activations}
    write_atomically(output, cache_from_amax(amax, tensorrt, algorithm).text())
    say(f"{output}: {len(amax)} tensors, {name}, for TensorRT {tensorrt} and {algorithm}")
    if not others:
        say(
            "It has the inputs of quantized nodes only. TensorRT runs a layer in INT8 if its "
            "outputs have scales too: run with --set calibration.tensors=all for these."
        )


def _judged_calibrator(result: RunResult) -> str:
    chosen = result.verdict.chosen
    calibrator = result.candidate(chosen).calibrator if chosen else None
    return calibrator or result.calibration.calibrators[0]


def _check_version(text: str) -> None:
    parts = text.split(".")
    if not (2 <= len(parts) <= 4 and all(part.isdecimal() for part in parts)):
        raise ConfigError("--tensorrt", "is no version", got=text, expected="e.g. 10.3.0")
    if not 7_000 <= version_number(text) < 110_000:
        raise ConfigError(
            "--tensorrt",
            "reads no calibration cache",
            got=text,
            expected="7 to 10",
            fix="TensorRT 11 takes the run's models/*/model.onnx, which has explicit Q/DQ.",
        )


@app.command("import")
def import_(
    cache: CacheFile,
    model: Annotated[Path, typer.Argument(help="The FP32 ONNX file it was made for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSON file to write.")],
) -> None:
    """Read a cache for a model: which of its scales the model asks for, as scales.json."""
    found = load_cache(cache)
    coverage = coverage_of(model, found)
    scales = {name: found.scales[name] for name in coverage.matched}
    write_atomically(output, json.dumps(scales, indent=1, sort_keys=True))
    _print_coverage(coverage.matched, coverage.lacking, coverage.elsewhere, coverage.unknown)
    say(f"{output}: {len(scales)} scales")


@app.command("to-qdq")
def to_qdq(
    model: Annotated[Path, typer.Argument(help="The FP32 ONNX file the cache was made for.")],
    cache: CacheFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    config: Annotated[
        Path | None, typer.Option(help="An experiment with data and selection to compare on.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME:AxBxC", help="Shape of a random input.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to compare on, at most.")] = 256,
    table: Annotated[Path | None, typer.Option(help="Write the table of tensors as CSV.")] = None,
) -> None:
    """Move a cache to explicit Q/DQ, which is all that TensorRT 11 reads, and compare to FP32."""
    found = load_cache(cache)
    experiment = load_experiment(config) if config else None
    shapes = dict(_shape(text) for text in shape or ())
    moved = migrate(model, found, output, experiment=experiment, shapes=shapes, samples=samples)
    coverage = moved.coverage
    _print_coverage(coverage.matched, coverage.lacking, coverage.elsewhere, coverage.unknown)
    _print_errors(moved)
    if table is not None:
        write_coverage_csv(coverage, found, table)
    say(f"{output}: {len(coverage.selection.quantized_nodes)} nodes read INT8")


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, colon, sizes = text.rpartition(":")
    parts = sizes.split("x")
    if not colon or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError("--shape", "is no shape", got=text, expected="e.g. images:1x3x224x224")
    return name, tuple(int(part) for part in parts)


def _print_coverage(
    matched: tuple[str, ...],
    lacking: dict[str, tuple[str, ...]],
    elsewhere: tuple[str, ...],
    unknown: tuple[str, ...],
) -> None:
    say(f"{len(matched)} tensors have a scale, {len(lacking)} lack one")
    for tensor, nodes in lacking.items():
        say(f"  lacks a scale: {tensor}; in float: {', '.join(nodes)}")
    if elsewhere:
        say(f"scales that explicit Q/DQ does not ask for: {len(elsewhere)}")
    if unknown:
        say(f"scales of no tensor of this model: {len(unknown)} ({', '.join(unknown[:5])})")


def _print_errors(moved: Migration) -> None:
    say(f"compared to FP32 on {moved.samples} samples ({moved.data}):")
    for error in moved.errors:
        noise = "exact" if error.sqnr_db is None else f"SQNR {error.sqnr_db:.1f} dB"
        cosine = "" if error.cosine is None else f", cosine {error.cosine:.5f}"
        say(f"  {error.tensor}: {noise}{cosine}, largest difference {error.max_abs:.4g}")
