"""Whether the calibration data are what the thresholds, and validation what the verdict, need."""

from calib.report.grid import Cell, Column, Row, Table, figure
from calib.report.page import Context, Page
from calib.report.words import anchor
from calib.results import AuditRecord, Severity

_TAGS = {Severity.ERROR: "fail", Severity.WARNING: "no_evidence", Severity.INFO: "info"}
_TENSORS = (
    Column("Tensor", name=True),
    Column("Distance", numeric=True),
    Column("p", numeric=True),
    Column("p, all at once", numeric=True),
    Column("Median amax, ratio", numeric=True),
    Column("Beyond calibration", numeric=True),
    Column("Largest, ratio", numeric=True),
)
_GROUPS = (
    Column("Column", choice=True),
    Column("Value"),
    Column("Calibration", numeric=True),
    Column("Validation", numeric=True),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    audit = page.result.audit
    if audit is None:
        return {"audit": None}
    calibrators = page.result.calibration.calibrators
    return {
        "audit": audit,
        "tags": _TAGS,
        "tensors": _tensors(audit, calibrators),
        "groups": _groups(audit),
    }


def _tensors(audit: AuditRecord, calibrators: tuple[str, ...]) -> Table:
    columns = list(_TENSORS)
    for name in calibrators:
        columns.append(Column(f"{name}: clipped, %", numeric=True))
        columns.append(Column(f"{name}: energy lost, %", numeric=True))
    rows = []
    for t in audit.tensors:
        cells = [
            Cell(t.tensor),
            figure(t.distance, 2),
            figure(t.p_value, 2),
            figure(t.p_adjusted, 2),
            figure(t.amax_ratio, 3),
            figure(t.beyond),
            figure(t.beyond_ratio, 3),
        ]
        for name in calibrators:
            cut = t.saturation.get(name)
            cells.append(figure(None if cut is None else cut.clipped_pct, 2))
            cells.append(figure(None if cut is None else cut.lost_pct, 2))
        rows.append(Row(tuple(cells), id=anchor("audit", t.tensor)))
    caption = "Activations on both splits"
    return Table("audit-tensors-table", caption, tuple(columns), tuple(rows), interactive=True)


def _groups(audit: AuditRecord) -> Table:
    rows = tuple(
        Row(
            (
                Cell(g.column),
                Cell(g.name),
                figure(g.calibration, text=f"{g.calibration:,}"),
                figure(g.validation, text=f"{g.validation:,}"),
            )
        )
        for g in audit.groups
    )
    caption = "Classes and slices in both splits"
    return Table("audit-groups-table", caption, _GROUPS, rows, interactive=True)
