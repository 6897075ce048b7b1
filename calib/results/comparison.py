"""Two runs side by side, and many in a row."""

from enum import StrEnum

from pydantic import Field

from calib.record import Record


class Outcome(StrEnum):
    """What a comparison came to."""

    NO_WORSE = "no worse"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence"


class RunSummary(Record):
    """One run, as far as a row of a table shows it."""

    run_id: str
    experiment: str
    started_at: str
    verdict: str
    candidate: str | None = Field(description="What the verdict speaks of.")
    samples: int
    metric: str = Field(description="accuracy, mean absolute error or mean cosine; empty if none.")
    value: float | None
    reference: float | None = Field(description="FP32's.")
    flips_pct: float | None
    worsened_pct: float | None
    sqnr_db: float | None = Field(description="Of the worst output; None if exact or unknown.")
    p50_ms: float | None = Field(description="At `batch_size`.")
    batch_size: int | None
    size_bytes: int | None
    audit: str = Field(description="The gravest severity that the audit found; empty if none.")
    machine: str = Field(description="A letter for each machine, backend and set of packages.")
    data: str = Field(description="A letter for each validation split.")
    model: str = Field(description="A letter for each model file.")


class MetricChange(Record):
    """One figure in both runs, and its paired interval where the samples are the same."""

    name: str
    unit: str
    first: float | None
    second: float | None
    difference: float | None = Field(default=None, description="second - first.")
    low: float | None = Field(default=None, description="95 % interval of the difference.")
    high: float | None = None
    p_value: float | None = Field(default=None, description="Exact McNemar, of proportions.")
    samples: int = 0
    lower_is_better: bool = False

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval is on the bad side of 0."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 if self.lower_is_better else self.high < 0


class TailChange(Record):
    """A sample that the second run gets wrong, or nearly so, and the first did not."""

    id: str
    label: str | None
    first_prediction: str
    second_prediction: str
    first_loss: float = Field(description="Loss of margin against FP32.")
    second_loss: float
    first_rank: int
    second_rank: int
    worsened: bool = Field(description="FP32 right and the second run's candidate wrong.")


class ScaleMove(Record):
    """A threshold that moved; None where a run has none for that tensor."""

    tensor: str
    first: float | None
    second: float | None


class PrecisionMove(Record):
    """A node that runs in something else."""

    node: str
    first: str
    second: str


class RunComparison(Record):
    """What changed from one run to another."""

    outcome: Outcome
    reason: str
    first: RunSummary
    second: RunSummary
    unlike: tuple[str, ...] = Field(description="What differs in model, data, machine, config.")
    not_compared: tuple[str, ...] = Field(description="And why.")
    metrics: tuple[MetricChange, ...]
    tail: tuple[TailChange, ...] = Field(description="New in the second run's tail, worst first.")
    tail_count: int = Field(default=0, description="How many are new in all.")
    scales: tuple[ScaleMove, ...] = Field(description="The largest moves first.")
    precisions: tuple[PrecisionMove, ...]


class History(Record):
    """The runs of one experiment, the oldest first."""

    experiment: str
    runs: tuple[RunSummary, ...]
    unreadable: tuple[str, ...] = Field(default=(), description="Folders without a result.")
