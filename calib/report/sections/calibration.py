"""What the pass over the calibration data found, and the thresholds that came of it."""

import statistics
from collections import Counter
from typing import Any

from markupsafe import Markup

from calib.report.grid import Cell, Column, Row, Table, figure
from calib.report.histograms import histograms_plot
from calib.report.page import Context, Page
from calib.report.plots import growth_plot
from calib.report.words import anchor
from calib.results import ActivationRecord, CalibrationRecord

_SETTLED = (
    Column("Calibrator"),
    Column("Settled", numeric=True),
    Column("Not settled", numeric=True),
    Column("Too little data to tell", numeric=True),
    Column("Median standard error, %", numeric=True),
    Column("Largest, %", numeric=True),
    Column("Tensor that moves most", name=True),
)
_WEIGHTS = (
    Column("Tensor", name=True),
    Column("Operator", choice=True),
    Column("Axis", numeric=True),
    Column("Channels", numeric=True),
    Column("SQNR, dB", numeric=True),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    calibration = page.result.calibration
    counted = [a for a in calibration.activations if a.histogram]
    return {
        "settled": _settled(calibration) if calibration.part_samples else None,
        "chosen": _chosen(calibration),
        "left_alone": Counter(r.reason for r in calibration.left_alone).most_common(),
        "growth_plot": growth_plot(page.result, page.shown.calibrator),
        "histograms_plot": histograms_plot(counted) if counted else Markup(""),
        "thresholds": _thresholds(calibration),
        "weights": _weights(calibration),
        "warnings": [
            *calibration.warnings,
            *(f"{c.name}: {warning}" for c in page.result.candidates for warning in c.warnings),
        ],
        "data": {"histograms": _histograms(counted)} if counted else {},
    }


def _settled(calibration: CalibrationRecord) -> Table:
    rows = tuple(_settled_row(calibration, name) for name in calibration.calibrators)
    return Table("settled-table", "Thresholds by calibrator", _SETTLED, rows)


def _settled_row(calibration: CalibrationRecord, calibrator: str) -> Row:
    """How many of a calibrator's thresholds have settled, and which one moves most."""
    answers = [a.enough.get(calibrator) for a in calibration.activations]
    errors = {
        a.tensor: error
        for a in calibration.activations
        if (error := a.standard_error_pct.get(calibrator)) is not None
    }
    worst = max(errors, key=lambda name: errors[name], default="")
    return Row(
        (
            Cell(calibrator),
            figure(answers.count(True)),
            figure(answers.count(False)),
            figure(answers.count(None)),
            figure(statistics.median(errors.values()) if errors else None, 3),
            figure(errors.get(worst), 3),
            Cell(worst, href=f"#{anchor('threshold', worst)}" if worst else ""),
        )
    )


def _chosen(calibration: CalibrationRecord) -> list[tuple[str, list[tuple[str, int]]]]:
    """By calibrator that chooses: its choices and how often each was taken."""
    found = {
        name: Counter(a.chosen[name] for a in calibration.activations if name in a.chosen)
        for name in calibration.calibrators
    }
    return [(name, counts.most_common()) for name, counts in found.items() if counts]


def _thresholds(calibration: CalibrationRecord) -> Table:
    columns = [
        Column("Tensor", name=True),
        Column("Minimum", numeric=True),
        Column("Maximum", numeric=True),
        Column("Zeros, %", numeric=True),
    ]
    for name in calibration.calibrators:
        columns.append(Column(name, numeric=True))
        columns.append(Column(f"{name} ± %", numeric=True))
        columns.append(Column(f"{name} clips, %", numeric=True))
    return Table(
        id="thresholds-table",
        caption="Thresholds (amax) of every activation, by calibrator",
        columns=tuple(columns),
        rows=tuple(_threshold_row(a, calibration.calibrators) for a in calibration.activations),
        interactive=True,
    )


def _threshold_row(found: ActivationRecord, calibrators: tuple[str, ...]) -> Row:
    cells = [
        Cell(found.tensor),
        figure(found.minimum),
        figure(found.maximum),
        figure(100 * found.zeros / found.count if found.count else None, 3),
    ]
    for name in calibrators:
        amax = figure(found.amax[name])
        notes = [found.chosen[name]] if name in found.chosen else []
        if name in found.fallback:
            notes.append(f"too few values: {found.fallback[name]}")
        cells.append(Cell(amax.text, amax.value, notes=tuple(notes)))
        cells.append(figure(found.standard_error_pct.get(name), 2))
        cells.append(figure(found.clipped_pct[name], 3))
    return Row(tuple(cells), id=anchor("threshold", found.tensor))


def _weights(calibration: CalibrationRecord) -> Table:
    rows = (
        Row(
            id=anchor("weight", w.tensor),
            cells=(
                Cell(w.tensor),
                Cell(w.op_type),
                figure(w.axis),
                figure(w.channels, text=f"{w.channels:,}"),
                figure(w.sqnr_db),
            ),
        )
        for w in calibration.weights
    )
    caption = "Weights, per output channel"
    return Table("weights-table", caption, _WEIGHTS, tuple(rows), interactive=True)


def _histograms(activations: list[ActivationRecord]) -> list[dict[str, Any]]:
    return [
        {
            "tensor": a.tensor,
            "id": anchor("threshold", a.tensor),
            "end": a.histogram_end,
            "counts": list(a.histogram),
            "amax": {name: float(f"{value:.6g}") for name, value in a.amax.items()},
        }
        for a in activations
    ]
