"""What a rule looks at, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass

from calib.gate.limits import LimitsSpec
from calib.gate.resampling import with_unseen
from calib.gate.statistics import Interval, PairedCounts
from calib.results import CandidateRecord, LatencyRecord, MetricScore, RunResult, Verdict


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule looks at.

    Attributes:
        alpha: the chance of an error that each bound is given.
    """

    result: RunResult
    candidate: CandidateRecord
    limits: LimitsSpec
    alpha: float

    def latency(self, name: str) -> LatencyRecord | None:
        """Latency of a candidate at the operating point that the limits name; see `latency_at`."""
        found = (c for c in self.result.candidates if c.name == name)
        named = next(found, None)
        return named.latency_at(self.limits.batch_size, self.limits.threads) if named else None

    def counts(self) -> PairedCounts | None:
        """The labelled samples by who is right: FP32, the candidate, or both.

        None without any, and in a task whose answers are not right or wrong.
        """
        score, flips = self.candidate.score, self.candidate.flips
        if score is None or flips is None or not score.samples:
            return None
        right = score.reference_right
        if right is None and score.reference_accuracy_pct is not None:
            right = round(score.reference_accuracy_pct * score.samples / 100)
        if right is None:
            return None
        return PairedCounts(
            score.samples, flips.worsened, flips.improved, max(0, right - flips.worsened)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A measured value; None where there is no evidence, and `details` says why.

    Attributes:
        value: in the limit's unit.
        samples: that it rests on.
        details: for a person to read.
        interval: the bounds of the true value, where the value is a statistic of samples.
        method: how the bounds were found.
        needed: number of samples that would decide, given the limit; None where no number would.
        unit: what `needed` counts.
        verdict: where it does not follow from the bounds alone.
    """

    value: float | None
    samples: int
    details: str
    interval: Interval | None = None
    method: str = ""
    needed: Callable[[float], int | None] | None = None
    unit: str = "validation samples"
    verdict: Verdict | None = None


Measure = Callable[[Facts], Found]


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit: its field in `LimitsSpec`, its direction, and how the value is found.

    Attributes:
        sampled: whether the value is a statistic of samples: judged by its bounds, never by itself.
    """

    name: str
    title: str
    unit: str
    measure: Measure
    sampled: bool = False

    @property
    def is_maximum(self) -> bool:
        """Whether the value must not exceed the limit; otherwise it must reach it."""
        return self.name.endswith("_max")


SPAN = 100.0
"""A sample that is right scores 100 %, and one that is wrong 0 %."""


def loss_interval(metric: MetricScore, samples: int, alpha: float) -> Interval | None:
    """Bounds of what a metric truly loses: resampled, with room for losses that no sample shows.

    Args:
        metric: with its resampled losses.
        samples: that it rests on, unless it says itself that it rests on a part of them.
        alpha: chance of an error on each side.
    """
    bounds, loss = metric.bounds(alpha), metric.loss
    if bounds is None or loss is None:
        return None
    found = Interval(*bounds)
    known = samples if metric.samples is None else metric.samples
    if metric.unit == "%" and known:
        return with_unseen(found, loss, known, alpha, SPAN)
    return found
