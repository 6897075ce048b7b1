"""Judging calibration data: pure functions from what was counted to plain findings."""

from calib.audit.facts import AuditFacts, InputProfile, SplitFacts
from calib.audit.judge import judge

__all__ = ["AuditFacts", "InputProfile", "SplitFacts", "judge"]
