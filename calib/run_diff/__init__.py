"""What changed between runs: pure functions over finished runs' records."""

from calib.run_diff.compare import compare_runs
from calib.run_diff.history import history
from calib.run_diff.side import COLUMNS, SampleColumns
from calib.run_diff.summary import summarise

__all__ = ["COLUMNS", "SampleColumns", "compare_runs", "history", "summarise"]
