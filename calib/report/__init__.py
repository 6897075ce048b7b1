"""Drawing a run: reads `RunResult`, and nothing else."""

from calib.report.html import render_html, write_report
from calib.report.tables import SamplesCsv, write_sensitivity

__all__ = ["SamplesCsv", "render_html", "write_report", "write_sensitivity"]
