"""Drawing a run: reads `RunResult`, and nothing else."""

from calib.report.html import render_html, write_report
from calib.report.model_card import render_model_card
from calib.report.pdf import find_browser, write_pdf
from calib.report.samples import SampleTables
from calib.report.tables import write_sensitivity

__all__ = [
    "SampleTables",
    "find_browser",
    "render_html",
    "render_model_card",
    "write_pdf",
    "write_report",
    "write_sensitivity",
]
