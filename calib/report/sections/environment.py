"""The model, the data, the machine, and the config."""

import json

from calib.report.grid import Cell, Column, Row, Table, fixed
from calib.report.page import Context, Page

_STAGES = (Column("Stage"), Column("Seconds", numeric=True), Column("From the store"))


def context(page: Page) -> Context:
    """See `Section.context`."""
    rows = (
        Row((Cell(s.name), fixed(s.seconds), Cell("yes" if s.reused else "no")))
        for s in page.result.stages
    )
    return {"stages": Table("stages-table", "Stages", _STAGES, tuple(rows))}


def config(page: Page) -> Context:
    """See `Section.context`."""
    return {"config": json.dumps(page.result.config, indent=2, ensure_ascii=False)}
