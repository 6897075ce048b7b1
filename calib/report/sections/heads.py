"""Further heads of the model: each with its own kind of task."""

from calib.report.grid import Cell, Column, Row, Table
from calib.report.page import Context, Page
from calib.report.words import number
from calib.results import HeadRecord, MetricScore

_HEADS = (
    Column("Head"),
    Column("Candidate"),
    Column("Metric"),
    Column("Value", numeric=True),
    Column("FP32", numeric=True),
    Column("Lost", numeric=True),
    Column("Worsened", numeric=True),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    rows = tuple(
        _row(head, candidate.name, metric)
        for candidate in page.result.candidates
        for head in candidate.heads
        for metric in head.score.metrics or head.score.agreement
    )
    return {"heads": Table("heads-table", "Further heads", _HEADS, rows)}


def _row(head: HeadRecord, candidate: str, metric: MetricScore) -> Row:
    return Row(
        (
            Cell(head.name),
            Cell(candidate),
            Cell(metric.title),
            Cell(metric.text, metric.value),
            Cell(metric.reference_text, metric.reference),
            Cell(number(metric.loss), metric.loss),
            Cell(str(head.flips.worsened), head.flips.worsened),
        )
    )


def present(page: Page) -> bool:
    """Whether the model has any."""
    return any(candidate.heads for candidate in page.result.candidates)
