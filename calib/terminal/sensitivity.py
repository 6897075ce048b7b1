"""A sensitivity analysis, and remedies, in the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calib.results import (
    RemediesRecord,
    SensitivityRecord,
)

_MUCH = 50
"""Per cent: more than half of the noise."""


def print_sensitivity(console: Console, found: SensitivityRecord) -> None:
    """The groups, the noisiest first; what remedies did, if they were asked for; what to do."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("group, noisiest first", overflow="fold")
    titles = ("alone dB", "activ.", "weights", "up to it", "flips", "clipped %", "wide", "work %")
    for title in titles:
        table.add_column(title, justify="right")
    for group in sorted(found.groups, key=lambda g: g.order_db):
        decibels = (group.alone_db, group.activations_db, group.weights_db, group.upto_db)
        table.add_row(
            escape(group.name),
            *(_decibels(value) for value in decibels),
            str(group.upto_changed),
            f"{group.clipped_pct:.0f}",
            f"{group.width_ratio:.0f}",
            f"{group.macs_pct:.2f}",
        )
    console.print(table)
    console.print()
    if found.remedies is not None:
        _print_remedies(console, found.remedies)
    for line in _advice(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _advice(found: SensitivityRecord) -> Iterator[str]:
    yield (
        f"SQNR at the model's scores against FP32, on {found.samples} calibration samples, "
        f"thresholds by {found.calibrator}: {_decibels(found.int8_db)} dB with all groups in INT8"
    )
    yield (
        "activ. and weights: only these rounded. up to it: it and all before it. wide: its widest "
        "channel over the median one. clipped: share of its activation's noise"
    )
    worst = min(found.groups, key=lambda g: g.order_db, default=None)
    if worst is None:
        return
    if worst.clipped_pct > _MUCH:
        yield f"{worst.name} loses by clipping: try calibrator minmax or mse."
    if found.remedies is None:
        yield "quantization: auto looks for what helps, and leaves in float what nothing helps."


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _print_remedies(console: Console, remedies: RemediesRecord) -> None:
    steps = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("remedy", "SQNR dB", "kept", "what it does"):
        steps.add_column(title, justify="right" if title == "SQNR dB" else "left")
    for step in remedies.steps:
        steps.add_row(
            step.name, f"{step.sqnr_db:.1f}", "yes" if step.kept else "no", escape(step.what)
        )
    console.print(steps)
    console.print()
    console.print(remedies_line(remedies), markup=False, highlight=False, soft_wrap=True)


def remedies_line(remedies: RemediesRecord) -> str:
    """What remedies did, in a sentence."""
    kept = [step for step in remedies.steps if step.kept]
    path = ", ".join(f"{step.name} {step.sqnr_db:.1f}" for step in kept)
    floats = [group for group in remedies.groups if group.in_float]
    left = f"; {len(floats)} of {len(remedies.groups)} groups left in float" if floats else ""
    reached = [trial.sqnr_db for trial in remedies.trials if trial.kept]
    after = f" ({reached[-1]:.1f} dB)" if reached and floats else ""
    stopped = "; stopped by hand: the next run goes on from here" if remedies.stopped else ""
    return (
        f"remedies, SQNR on {remedies.kept_aside} calibration samples kept aside: {path} dB"
        f"{left}{after}; {remedies.macs_int8_pct:.1f} % of the multiply-accumulates are "
        f"asked for in INT8{stopped}"
    )
