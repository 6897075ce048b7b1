"""Limits held against candidates."""

from pydantic import Field

from calib.record import Record
from calib.results.kinds import Verdict


class RuleVerdict(Record):
    """One limit held against one candidate."""

    rule: str = Field(description="The limit's name in the config, e.g. accuracy_drop_points_max.")
    title: str = Field(description="What is asked, with the limit in it.")
    verdict: Verdict
    limit: float
    found: float | None
    unit: str
    samples: int
    details: str


class CandidateVerdict(Record):
    """All rules held against one candidate; it passes only if each of them does."""

    candidate: str
    verdict: Verdict
    rules: tuple[RuleVerdict, ...]


class RunVerdict(Record):
    """The run's answer: which candidate may ship, if any."""

    verdict: Verdict
    chosen: str | None = Field(description="The candidate the verdict speaks of.")
    reason: str
    advice: str = Field(default="", description="What to do where no limit says it.")
    candidates: tuple[CandidateVerdict, ...]
