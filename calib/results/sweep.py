"""What a sweep over the settings of one experiment found."""

from pydantic import Field

from calib.record import Record
from calib.results.kinds import Verdict


class TrialRecord(Record):
    """One point of the space, and the run that was made of it."""

    number: int = Field(description="From 1, in the order in which they were asked for.")
    settings: dict[str, str] = Field(description="By dotted path, as `--set` takes them.")
    label: str = Field(description="What of them differs between trials, in short.")
    problem: str = Field(default="", description="Why there is no run; empty if there is one.")
    run_id: str | None = None
    seconds: float | None = Field(default=None, description="What it took; None if taken over.")
    candidate: str | None = Field(default=None, description="What the figures are of.")
    verdict_alone: Verdict | None = Field(
        default=None, description="Of its own run, which knows of no other trial."
    )
    verdict: Verdict | None = Field(default=None, description="As one of all that were tried.")
    reason: str = ""
    metric: str = Field(default="", description="The task's figure, with its unit.")
    reference: str = Field(default="", description="FP32's.")
    loss: float | None = Field(default=None, description="What the metric lost against FP32.")
    loss_bound: float | None = Field(
        default=None, description="Above it is the true loss with chance `alpha` at most."
    )
    sqnr_db: float | None = Field(default=None, description="Of the worst output; None if exact.")
    speedup: float | None = Field(default=None, description="FP32's median latency over its own.")
    speedup_low: float | None = None
    speedup_high: float | None = None
    size_ratio: float | None = Field(default=None, description="Its file's size over FP32's.")
    model_sha256: str | None = None
    same_model_as: int | None = Field(default=None, description="An earlier trial's number.")
    accuracy: float | None = Field(default=None, description="First objective: lower is better.")
    cost: float | None = Field(default=None, description="Second objective: lower is better.")
    on_front: bool = Field(default=False, description="No other trial is as good in both.")


class SweepRecord(Record):
    """Every trial, the front of those that none surpasses, and the one to take."""

    experiment: str
    started_at: str = Field(description="UTC, ISO 8601.")
    space: dict[str, str] = Field(description="Values or range, by dotted path.")
    size: int | None = Field(description="Points of the space; None if it has a range.")
    sampler: str
    seed: int
    trials: tuple[TrialRecord, ...]
    accuracy_title: str
    accuracy_words: str = Field(description="What the first objective is, in a sentence.")
    cost_title: str
    cost_words: str
    limit: float | None = Field(
        default=None, description="The limit on the first objective, where the config has one."
    )
    alpha: float = Field(description="Chance of an error that each was judged with.")
    choices: int = Field(description="INT8 models that the best was chosen among.")
    selection: str = Field(description="How the choice was accounted for.")
    notes: tuple[str, ...] = ()
    verdict: Verdict
    winner: int | None = Field(description="The trial to take; None if none passes.")
    reason: str
    next_step: str

    def trial(self, number: int) -> TrialRecord:
        """The trial of that number.

        Raises:
            KeyError: if there is none.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise KeyError(number)

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        """The trials that no other surpasses, the fastest or smallest first."""
        found = [trial for trial in self.trials if trial.on_front]
        return tuple(sorted(found, key=lambda trial: (trial.cost or 0.0, trial.number)))
