"""What changed between runs: pure functions over finished runs' records."""

from calib.run_diff.compare import COLUMNS, SampleColumns, compare_runs
from calib.run_diff.history import history
from calib.run_diff.summary import summarise

__all__ = ["COLUMNS", "SampleColumns", "compare_runs", "history", "summarise"]
