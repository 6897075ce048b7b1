"""Limits held against candidates."""

from typing import Literal

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
    low: float | None = Field(
        default=None, description="The true value is below it with chance `alpha` at most."
    )
    high: float | None = Field(
        default=None, description="The true value is above it with chance `alpha` at most."
    )
    alpha: float | None = Field(
        default=None, description="None where the value is no statistic of samples."
    )
    method: str = Field(default="", description="How the bounds were found.")
    samples_needed: int | None = Field(
        default=None,
        description="INCONCLUSIVE: samples that decide with a chance of 80 %, if what was found is "
        "true; None where no number would.",
    )
    samples_unit: str = Field(default="", description="What `samples_needed` counts.")
    advice: str = Field(default="", description="INCONCLUSIVE: what would decide.")


class PairedVerdict(Record):
    """A candidate against a rival on the same labelled samples, in percentage points lost."""

    rival: str
    samples: int
    worsened: int
    improved: int
    drop_points: float
    low: float = Field(description="Tango's score interval, corrected; chance of an error below.")
    high: float
    newcombe_low: float = Field(description="Newcombe's method 10, beside it.")
    newcombe_high: float
    mcnemar_p: float = Field(description="Exact, two-sided: were both right equally often.")
    alpha: float = Field(description="Chance of an error on each side of the intervals.")


class CandidateVerdict(Record):
    """All rules held against one candidate; it passes only if each of them does."""

    candidate: str
    verdict: Verdict
    rules: tuple[RuleVerdict, ...]
    paired: tuple[PairedVerdict, ...] = ()


class RunVerdict(Record):
    """The run's answer: which candidate may ship, if any."""

    verdict: Verdict
    chosen: str | None = Field(description="The candidate the verdict speaks of.")
    reason: str
    advice: str = Field(default="", description="What to do where no limit says it.")
    selection: str = Field(
        default="", description="How the choice among candidates was accounted for."
    )
    alpha: float | None = Field(
        default=None, description="Chance of an error that each candidate was judged with."
    )
    candidates: tuple[CandidateVerdict, ...]


class VerdictFile(Record):
    """`verdict.json`: the verdict, and of what. Its schema is docs/verdict.schema.json."""

    schema_version: Literal[1] = 1
    experiment: str
    run_id: str
    started_at: str = Field(description="UTC, ISO 8601.")
    exit_code: int = Field(description="0 pass, 1 fail, 3 no evidence, 4 inconclusive.")
    reference_sha256: str = Field(description="Of the FP32 model file.")
    model_sha256: str | None = Field(description="Of the candidate's model file.")
    model_path: str | None = Field(description="Relative to the run's directory.")
    calibration_sha256: str = Field(description="Of the calibration samples.")
    validation_sha256: str = Field(description="Of the validation samples.")
    verdict: RunVerdict
