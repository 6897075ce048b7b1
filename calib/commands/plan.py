"""`calib plan`: the samples that a verdict needs, before anything runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from calib.commands.options import Overrides, print_line
from calib.config import Experiment, load_experiment
from calib.errors import ConfigError
from calib.gate.planning import Assumed, Need, plan
from calib.gate.wording import rounded
from calib.terminal import output_console

_RATES = "0.5,1,2,5"


def plan_command(
    config: Path,
    overrides: Overrides = None,
    changed: Annotated[
        str,
        typer.Option(
            metavar="PCT,...",
            help="Samples that turn from right to wrong or back, in %; a column for each.",
        ),
    ] = _RATES,
    drop: Annotated[
        float, typer.Option(metavar="POINTS", help="True loss of accuracy, in points.")
    ] = 0.0,
    accuracy: Annotated[
        float, typer.Option(metavar="PCT", help="FP32's accuracy, for limits in % of it.")
    ] = 80.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Say how many validation samples each limit needs. Nothing is run, no data is read.

    With that many samples a candidate that loses no more than --drop passes with a chance of 80 %.
    """
    experiment = load_experiment(config, overrides or ())
    assumed = Assumed(_rates(changed), drop, accuracy)
    candidates, alpha = _alpha(experiment)
    classes = getattr(experiment.data.validation, "classes", None)
    needs = plan(experiment.limits, alpha, assumed, len(classes) if classes else None)
    if as_json:
        content = {"alpha": alpha, "changed_pct": assumed.changed_pct}
        rows = [asdict(need) for need in needs]
        print_line({**content, "limits": rows})
        return
    _print(needs, assumed)
    given = getattr(experiment.data.validation, "samples", None)
    for text in _notes(experiment, candidates, alpha, given):
        output_console().print(text, markup=False, highlight=False, soft_wrap=True)


def _print(needs: tuple[Need, ...], assumed: Assumed) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("limit", overflow="fold")
    for rate in assumed.changed_pct:
        table.add_column(f"{rate:g} % change", justify="right")
    for title in ("of", ""):
        table.add_column(title, overflow="fold")
    for need in needs:
        counts = [f"{rounded(n):,}" if n is not None else "never" for n in need.samples]
        counts += ["-"] * (len(assumed.changed_pct) - len(counts))
        table.add_row(need.title, *counts, need.unit, need.note)
    output_console().print(table)


def _notes(experiment: Experiment, candidates: int, alpha: float, given: int | None) -> list[str]:
    notes = [""]
    if candidates > 1:
        notes.append(
            f"The best of {candidates} INT8 candidates is judged, so each with alpha "
            f"{experiment.limits.alpha:g} / {candidates} = {alpha:.2g}."
        )
    if given is not None:
        notes.append(f"The config takes up to {given:,} validation samples.")
    notes.append("never: what is assumed breaks the limit, or is too near to it.")
    return notes


def _alpha(experiment: Experiment) -> tuple[int, float]:
    """The INT8 candidates among which the best is chosen, and what each is judged with."""
    limits = experiment.limits
    if limits.judge != "best":
        return 1, limits.alpha
    count = len(experiment.calibration.calibrators) * len(experiment.engines.rest)
    return count, limits.alpha / count


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError("--changed", "is no list of numbers", got=text) from error
    if not all(0 <= rate <= 100 for rate in rates):
        raise ConfigError("--changed", "is out of range", got=text, expected="0 to 100 each")
    return rates
