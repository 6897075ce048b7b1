"""Every trial judged as one of all that were tried, and the front of those that none surpasses.

The best of many trials on the same samples looks better than it is. So each bound is taken with
`limits.alpha` / k, for the k INT8 models that were tried (Bonferroni; docs/gate.md).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.advice import speedup_over
from calib.analysis.speedup import Speedup
from calib.gate.facts import Facts, loss_interval
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.sampled import accuracy_drop_points, embedding_cosine_mean
from calib.gate.task_limits import METRICS
from calib.results import CandidateRecord, Precision, RunResult, RunVerdict

_EXACT_DB = 200.0
"""Stands for a candidate that is equal to FP32."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a candidate lost, and the bound of it; None where it is not known.

    Attributes:
        title: what is lost, with its unit.
        words: what that is, as part of a sentence.
        limit: the limits' field that is held against it; empty if there is none.
    """

    title: str
    words: str
    limit: str = ""
    value: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """One trial in both objectives, by each way in which they can be told; lower is better.

    Attributes:
        verdict: as one of all trials.
        candidate: what it speaks of.
        loss: of the task's metric.
        noise: minus the SQNR of the worst output, in dB.
        speedup: over FP32; None where nothing was timed, or a precision was emulated.
        size: of its file, over FP32's.
        point: where speed was measured.
    """

    verdict: RunVerdict
    candidate: CandidateRecord
    loss: Loss
    noise: float | None
    speedup: Speedup | None
    size: float | None
    point: str

    def accuracy(self, basis: str) -> float | None:
        """The first objective by a basis of `ACCURACY`."""
        found = {"bound": self.loss.bound, "loss": self.loss.value, "noise": self.noise}[basis]
        return found if found is not None and math.isfinite(found) else None

    def cost(self, basis: str) -> float | None:
        """The second objective by a basis of `COST`."""
        if basis == "size":
            return self.size
        return 1 / self.speedup.ratio if self.speedup is not None else None


ACCURACY, COST = ("bound", "loss", "noise"), ("latency", "size")
"""The ways to tell the objectives, the best first: one is taken that all trials have."""


def basis(figures: Sequence[Figures], kinds: tuple[str, ...]) -> str:
    """The first of the kinds that every trial has; the last if there is none."""
    for kind in kinds:
        known = [f.accuracy(kind) if kinds is ACCURACY else f.cost(kind) for f in figures]
        if known and all(value is not None for value in known):
            return kind
    return kinds[-1]


def choices(results: Iterable[RunResult], limits: LimitsSpec) -> int:
    """How many INT8 models the best was chosen among; those of the same bytes are one.

    Where a run does not choose among its candidates, as `limits.judge` says, it is one choice.
    """
    models: set[tuple[str, ...]] = set()
    for result in results:
        own = [c.model_sha256 for c in result.candidates if c.precision is Precision.INT8]
        models |= {(sha,) for sha in own} if limits.judge == "best" else {tuple(own)}
    return max(len(models), 1)


def judged(result: RunResult, limits: LimitsSpec, count: int) -> RunVerdict:
    """The run's verdict as one of `count` choices: each bound with `limits.alpha` / count."""
    return evaluate(result, _corrected(result, limits, count))


def _corrected(result: RunResult, limits: LimitsSpec, count: int) -> LimitsSpec:
    """The limits whose alpha the gate turns into alpha / count: it divides by the run's own."""
    own = sum(c.precision is Precision.INT8 for c in result.candidates)
    factor = max(own, 1) if limits.judge == "best" else 1
    return limits.model_copy(update={"alpha": limits.alpha * factor / count})


def figures_of(result: RunResult, limits: LimitsSpec, count: int) -> Figures | None:
    """A trial's figures as one of `count` choices; None without an INT8 candidate."""
    verdict = judged(result, limits, count)
    chosen = verdict.chosen
    if chosen is None:
        return None
    candidate = result.candidate(chosen)
    alpha = limits.alpha / count
    facts = Facts(result, candidate, limits, alpha)
    timed = facts.latency(chosen)
    faster = (
        speedup_over(result, chosen, Precision.FP32, timed.batch_size, timed.threads, 1 - 2 * alpha)
        if timed is not None
        else None
    )
    reference = result.reference.size_bytes
    return Figures(
        verdict=verdict,
        candidate=candidate,
        loss=loss_of(facts),
        noise=_noise(candidate),
        speedup=faster,
        size=candidate.size_bytes / reference if reference else None,
        point=timed.point if timed is not None else "",
    )


def loss_of(facts: Facts) -> Loss:
    """What the headline metric lost, and its bound, as the gate computes them."""
    score = facts.candidate.score
    if score is None:
        return Loss("", "")
    if score.accuracy_pct is not None:
        found = accuracy_drop_points(facts)
        bound = found.interval.high if found.interval else None
        limit = "accuracy_drop_points_max"
        return Loss("accuracy lost, points", "accuracy lost", limit, found.value, bound)
    if score.mean_cosine is not None:
        found = embedding_cosine_mean(facts)
        bound = 1 - found.interval.low if found.interval else None
        value = None if found.value is None else 1 - found.value
        return Loss(
            "1 - mean cosine to FP32's", "the mean cosine's distance to 1", "", value, bound
        )
    head = score.headline
    if head is None or head.loss is None:
        return Loss("", "")
    labelled = bool(score.metrics)
    flips = facts.candidate.flips
    samples = score.samples if labelled or flips is None else flips.samples
    interval = loss_interval(head, samples, facts.alpha)
    unit = "points" if head.unit == "%" else head.unit
    named = next((field for field, (name, *_) in METRICS.items() if name == head.name), "")
    words = (
        f"what {head.title} lost" if labelled else f"what {head.title} lacks with FP32's answers"
    )
    return Loss(
        f"{words}, {unit}" if unit else words,
        words if labelled else f"{words} for the truth, as there are no labels",
        named if labelled else "disagreement_points_max",
        head.loss,
        interval.high if interval is not None else None,
    )


def _noise(candidate: CandidateRecord) -> float | None:
    errors = [error for error in candidate.outputs if error.samples]
    if not errors:
        return None
    return -min(_EXACT_DB if e.sqnr_db is None else e.sqnr_db for e in errors)


def front(objectives: Mapping[int, tuple[float, float]]) -> frozenset[int]:
    """The trials that no other surpasses: none is as good in both and better in one.

    Args:
        objectives: by trial's number: both objectives, lower is better.
    """
    numbers = list(objectives)
    values: NDArray[np.float64] = np.array([objectives[n] for n in numbers]).reshape(-1, 2)
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    surpassed = np.flatnonzero((no_worse & better).any(axis=0))
    return frozenset(numbers) - {numbers[index] for index in surpassed}
