"""What ONNX Runtime really ran each candidate in."""

from typing import Any

from calib.engine_record import NodePrecision, RanRecord
from calib.report.grid import Cell, Column, Row, Table, figure
from calib.report.page import Context, Page
from calib.results import CandidateRecord, RunResult

_WORK = {
    "integer": "Integer operators",
    "float": "Float",
    "emulated": "Emulated",
    "conversion": "Conversions",
}
_CANDIDATES = (
    Column("Candidate"),
    Column("Asked for INT8, % of MACs", numeric=True),
    Column("Ran in INT8, %", numeric=True),
    Column("Asked for INT8, got other", numeric=True),
    *(Column(title, numeric=True) for title in _WORK.values()),
)
_NODES = (
    Column("Layer", name=True),
    Column("Operator", choice=True),
    Column("Asked", choice=True),
    Column("Ran in", choice=True),
    Column("Kernel", choice=True),
    Column("MACs, %", numeric=True),
    Column("Why"),
)


def present(page: Page) -> bool:
    """Whether any candidate's graph was read back."""
    return any(c.ran is not None for c in page.result.candidates)


def context(page: Page) -> Context:
    """See `Section.context`."""
    told = [c for c in page.result.candidates if c.ran is not None]
    shown = page.shown.ran
    return {
        "problems": [(c.name, c.ran.problem) for c in told if c.ran is not None and c.ran.problem],
        "candidates": _candidates(page.result, told),
        "detail": None if shown is None or shown.problem else _detail(shown),
    }


def _candidates(result: RunResult, told: list[CandidateRecord]) -> Table:
    rows = tuple(
        Row(
            mark="chosen" if c.name == result.verdict.chosen else "",
            cells=(
                Cell(c.name),
                figure(c.ran.asked_int8_macs_pct),
                figure(c.ran.int8_macs_pct),
                figure(len(c.ran.demoted)),
                *(figure(c.ran.operators.get(work, 0)) for work in _WORK),
            ),
        )
        for c in told
        if c.ran is not None and not c.ran.problem
    )
    return Table("ran-table", "What each candidate ran in", _CANDIDATES, rows)


def _detail(ran: RanRecord) -> dict[str, Any]:
    """The layers of one candidate, and why some did not get INT8, the costliest cause first."""
    total = sum(node.macs or 0 for node in ran.nodes)
    causes: dict[str, list[NodePrecision]] = {}
    for node in ran.demoted:
        causes.setdefault(node.cause, []).append(node)
    lost = [(c, len(n), _share(sum(x.macs or 0 for x in n), total)) for c, n in causes.items()]
    return {
        "record": ran,
        "unknown": sum(node.macs is None for node in ran.nodes),
        "causes": sorted(lost, key=lambda c: -(c[2] or 0)),
        "nodes": Table(
            "ran-nodes-table",
            "What each layer was asked to run in and what it ran in",
            _NODES,
            tuple(_node_row(node, total) for node in ran.nodes),
            interactive=True,
        ),
    }


def _share(macs: int | None, total: int) -> float | None:
    return None if macs is None or not total else 100 * macs / total


def _node_row(node: NodePrecision, total: int) -> Row:
    emulated = ", emulated" if node.emulated else ""
    ran = f"{node.ran or '?'}{emulated}"
    return Row(
        mark="worst" if node.is_demoted else "",
        cells=(
            Cell(node.node),
            Cell(node.op_type),
            Cell(node.asked),
            Cell(f"⚠ {ran}", tag="no_evidence") if node.is_demoted else Cell(ran),
            Cell(node.kernel),
            figure(_share(node.macs, total), 3),
            Cell(node.cause),
        ),
    )
