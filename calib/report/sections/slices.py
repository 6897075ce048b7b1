"""What became of each part of the samples, and the parts that a search came upon."""

import math

from calib.gate.facts import loss_interval
from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.words import NOTHING, anchor
from calib.results import CandidateRecord, FoundSlice, MetricScore, SliceScore

_PARTS = (Column("Slice"), Column("By", choice=True), Column("Samples", numeric=True))
_COUNTED = (
    Column("Worsened", numeric=True),
    Column("Improved", numeric=True),
    Column("Lost, points", numeric=True),
    Column("Flips", numeric=True),
)
_ALPHA = 0.05
_FOUND = (
    Column("Samples where"),
    Column("Samples", numeric=True),
    Column("Worsened", numeric=True),
    Column("Improved", numeric=True),
    Column("Elsewhere", numeric=True),
    Column("Worsened there", numeric=True),
    Column("Improved there", numeric=True),
    Column("p", numeric=True),
)
_FOUND_BY_SCORE = (
    Column("Samples where"),
    Column("Samples", numeric=True),
    Column("Mean loss", numeric=True),
    Column("Elsewhere", numeric=True),
    Column("Mean loss there", numeric=True),
    Column("p", numeric=True),
)


def context(page: Page) -> Context:
    """See `Section.context`; the slice that lost most comes first."""
    shown = page.shown
    slices = sorted(shown.slices, key=lambda s: (-_rank(s), s.family, s.name))
    figures = [s.figure for s in slices if s.figure is not None]
    has_right = shown.score is not None and shown.score.reference_right is not None
    counted = _COUNTED if has_right or not figures else ()
    if figures and counted:
        counted = (*_COUNTED[:2], Column("Right answers lost, points", numeric=True), _COUNTED[3])
    measured = _measured(figures[0], shown) if figures else ()
    by_score = [s for s in shown.found_slices if s.loss is not None]
    return {
        "slices": Table(
            "slices-table",
            f"Slices of the validation samples, {shown.name} against FP32",
            (*_PARTS, *measured, *counted),
            tuple(_row(s, measured=bool(measured), counted=bool(counted)) for s in slices),
            interactive=True,
        ),
        "found": Table(
            "found-slices-table",
            "Slices that a search came upon",
            _FOUND_BY_SCORE if by_score else _FOUND,
            tuple(_found_row(s) for s in shown.found_slices),
        ),
        "figure": figures[0] if figures else None,
        "counted": bool(counted),
        "score": by_score[0].score if by_score else "",
    }


def _lost(found: SliceScore) -> float:
    """Points of accuracy that the candidate lost on the slice."""
    return 100 * (found.worsened - found.improved) / found.samples if found.samples else 0.0


def _rank(found: SliceScore) -> float:
    """What the slices are ordered by: what the task's figure loses, else accuracy."""
    if found.figure is None:
        return _lost(found)
    return -math.inf if found.figure.loss is None else found.figure.loss


def _measured(own: MetricScore, shown: CandidateRecord) -> tuple[Column, ...]:
    unit = f", {own.unit}" if own.unit else ""
    lost = f"Lost{', points' if own.unit == '%' else unit}"
    name = "INT8" if shown.calibrator else shown.name
    return (
        Column(f"FP32{unit}", numeric=True),
        Column(f"{name}{unit}", numeric=True),
        Column(lost, numeric=True),
        Column("At least", numeric=True),
        Column("At most", numeric=True),
    )


def _row(found: SliceScore, *, measured: bool, counted: bool) -> Row:
    cells = [
        Cell(found.name),
        Cell(found.family),
        figure(found.samples, text=f"{found.samples:,}"),
    ]
    if measured:
        cells += _figure_cells(found)
    if counted:
        cells += [
            figure(found.worsened, text=f"{found.worsened:,}"),
            figure(found.improved, text=f"{found.improved:,}"),
            fixed(_lost(found), "%+.2f"),
            figure(found.flips, text=f"{found.flips:,}"),
        ]
    return Row(id=anchor("slice", found.family, found.name), cells=tuple(cells))


def _figure_cells(found: SliceScore) -> list[Cell]:
    own = found.figure
    if own is None:
        return [Cell(NOTHING)] * 5
    bounds = loss_interval(own, own.samples or found.samples, _ALPHA)
    ends = (None, None) if bounds is None else (bounds.low, bounds.high)
    if own.unit == "%":
        return [fixed(v) for v in (own.reference, own.value)] + [
            fixed(v, "%+.2f") for v in (own.loss, *ends)
        ]
    return [figure(v) for v in (own.reference, own.value, own.loss, *ends)]


def _found_row(found: FoundSlice) -> Row:
    if found.loss is not None:
        return Row(
            (
                Cell(found.condition),
                figure(found.samples, text=f"{found.samples:,}"),
                figure(found.loss, 3),
                figure(found.rest_samples, text=f"{found.rest_samples:,}"),
                figure(found.rest_loss, 3),
                figure(found.p_value, 2),
            )
        )
    counts = (
        found.samples,
        found.worsened,
        found.improved,
        found.rest_samples,
        found.rest_worsened,
        found.rest_improved,
    )
    return Row(
        (
            Cell(found.condition),
            *(figure(count, text=f"{count:,}") for count in counts),
            figure(found.p_value, 2),
        )
    )
