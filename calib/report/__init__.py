"""Drawing a run: reads `RunResult`, and nothing else."""

from calib.report.html import render_html, write_report
from calib.report.samples import SampleTables
from calib.report.tables import write_sensitivity

__all__ = ["SampleTables", "render_html", "write_report", "write_sensitivity"]
