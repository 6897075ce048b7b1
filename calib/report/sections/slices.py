"""What became of each part of the samples, and the parts that a search came upon."""

from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.words import anchor
from calib.results import FoundSlice, SliceScore

_SLICES = (
    Column("Slice"),
    Column("By", choice=True),
    Column("Samples", numeric=True),
    Column("Worsened", numeric=True),
    Column("Improved", numeric=True),
    Column("Lost, points", numeric=True),
    Column("Flips", numeric=True),
)
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


def context(page: Page) -> Context:
    """See `Section.context`; the slice that lost most comes first."""
    shown = page.shown
    slices = sorted(shown.slices, key=lambda s: (-_lost(s), s.family, s.name))
    return {
        "slices": Table(
            "slices-table",
            f"Slices of the validation samples, {shown.name} against FP32",
            _SLICES,
            tuple(_row(s) for s in slices),
            interactive=True,
        ),
        "found": Table(
            "found-slices-table",
            "Slices that a search came upon",
            _FOUND,
            tuple(_found_row(s) for s in shown.found_slices),
        ),
    }


def _lost(found: SliceScore) -> float:
    """Points of accuracy that the candidate lost on the slice."""
    return 100 * (found.worsened - found.improved) / found.samples if found.samples else 0.0


def _row(found: SliceScore) -> Row:
    return Row(
        id=anchor("slice", found.family, found.name),
        cells=(
            Cell(found.name),
            Cell(found.family),
            figure(found.samples, text=f"{found.samples:,}"),
            figure(found.worsened, text=f"{found.worsened:,}"),
            figure(found.improved, text=f"{found.improved:,}"),
            fixed(_lost(found), "%+.2f"),
            figure(found.flips, text=f"{found.flips:,}"),
        ),
    )


def _found_row(found: FoundSlice) -> Row:
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
