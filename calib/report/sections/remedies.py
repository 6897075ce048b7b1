"""What was done for INT8's accuracy, what it gave and what it cost."""

from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.plots import floats_plot
from calib.report.words import anchor
from calib.results import PlacementRecord, RemediesRecord

_STEPS = (
    Column("Remedy"),
    Column("SQNR, dB", numeric=True),
    Column("Changed", numeric=True),
    Column("Kept"),
    Column("Operators", numeric=True),
    Column("Constants, MB", numeric=True),
    Column("What it does"),
)
_GROUPS = (
    Column("Group", name=True),
    Column("Nodes", numeric=True),
    Column("Work, %", numeric=True),
    Column("Alone, dB", numeric=True),
    Column("Left in float"),
)
_TRIALS = (
    Column("In INT8, % of the work", numeric=True),
    Column("SQNR, dB", numeric=True),
    Column("Groups in float", numeric=True),
    Column("Chosen"),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    remedies, placement = page.result.remedies, page.result.placement
    placed = {} if placement is None else {"placements": _placements(placement)}
    if remedies is None:
        return placed
    return {
        **placed,
        "steps": _steps(remedies),
        "groups": _groups(remedies),
        "trials": _trials(remedies),
        "floats_plot": floats_plot(remedies),
    }


def _steps(remedies: RemediesRecord) -> Table:
    rows = [
        Row(
            mark="chosen" if s.kept else "",
            cells=(
                Cell(s.name),
                fixed(s.sqnr_db, "%.1f"),
                figure(s.changed),
                Cell("yes" if s.kept else "no: not more than chance"),
                figure(s.nodes),
                figure(s.size_bytes / 1e6, 3),
                Cell(s.what),
            ),
        )
        for s in remedies.steps
    ]
    for trial in remedies.trials:
        if trial.kept:
            what = (
                f"{len(trial.groups)} of {len(remedies.groups)} groups in float: what makes the "
                "most noise for the least work"
            )
            cells = (Cell("mixed precision"), fixed(trial.sqnr_db, "%.1f"), Cell(""), Cell("yes"))
            rows.append(Row((*cells, Cell(""), Cell(""), Cell(what)), mark="chosen"))
    return Table("steps-table", "Remedies, in the order they were tried", _STEPS, tuple(rows))


def _placements(placement: PlacementRecord) -> Table:
    rows = (
        Row(
            mark="chosen" if t.kept else "",
            cells=(
                Cell(t.name),
                Cell(t.what),
                figure(t.sqnr_db, 3),
                figure(t.median_ms, 3),
                figure(t.rounds),
                Cell("yes" if t.kept else "no"),
            ),
        )
        for t in placement.trials
    )
    return Table(
        "placement-table", "Where integers run", _placement_columns(placement), tuple(rows)
    )


def _placement_columns(placement: PlacementRecord) -> tuple[Column, ...]:
    return (
        Column("Placement"),
        Column("What runs in integers"),
        Column("SQNR, dB", numeric=True),
        Column(f"Median of {placement.batch_size}, ms", numeric=True),
        Column("Rounds", numeric=True),
        Column("Kept"),
    )


def _groups(remedies: RemediesRecord) -> Table:
    rows = (
        Row(
            id=anchor("group", g.name),
            mark="worst" if g.in_float else "",
            cells=(
                Cell(g.name),
                figure(len(g.nodes)),
                figure(g.macs_pct, 3),
                Cell("exact" if g.alone_db is None else f"{g.alone_db:.1f}", g.order_db),
                Cell("yes" if g.in_float else "no"),
            ),
        )
        for g in sorted(remedies.groups, key=lambda g: g.order_db)
    )
    caption = "Each group alone in INT8, the noisiest first"
    return Table("groups-table", caption, _GROUPS, tuple(rows), interactive=True)


def _trials(remedies: RemediesRecord) -> Table:
    rows = (
        Row(
            mark="chosen" if t.kept else "",
            cells=(
                fixed(t.macs_int8_pct),
                fixed(t.sqnr_db, "%.1f"),
                figure(len(t.groups)),
                Cell("yes" if t.kept else "no"),
            ),
        )
        for t in sorted(remedies.trials, key=lambda t: -t.macs_int8_pct)
    )
    caption = "Choices of what stays in float, by the work left in INT8"
    return Table("trials-table", caption, _TRIALS, tuple(rows), interactive=True)
