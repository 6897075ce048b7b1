"""The worst of many parts of the samples, by bounds of what a metric loses there.

The same rules as for slices whose answers are counted, see `calib.gate.worst`; the bounds are those
of a bootstrap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from calib.gate.facts import Found
from calib.gate.sample_size import scaled_samples
from calib.gate.statistics import Interval, holm
from calib.results import Verdict

METHOD = (
    "paired percentile bootstrap of the samples, with room for unseen ones; Holm's correction "
    "before a part fails"
)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the samples, and what a metric loses on them.

    Attributes:
        family: what the samples were divided by.
        name: which of the parts.
        samples: > 0.
        loss: above 0 is worse.
        interval: of the true loss; None where there are too few samples for one.
        details: the figures behind the loss, in words.
    """

    family: str
    name: str
    samples: int
    loss: float
    interval: Interval | None
    details: str = ""

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


def pooled_parts(parts: Sequence[Part], samples_min: int) -> list[Part]:
    """The parts of one family, small ones put together until each has enough samples.

    What is put together loses the mean of its parts' losses, each as often as it has samples.
    Distances of the bounds add up as those of independent things do (G. Y. Zou, A. Donner,
    Statistics in Medicine 27, 2008). A part too small for bounds is as unsure, for each of its
    samples, as the unsurest other one that it is put together with.

    Args:
        parts: that do not overlap, or hardly.
        samples_min: fewest samples of a part.
    """
    ranked = sorted(parts, key=lambda p: (p.samples, p.name))
    small: list[Part] = []
    while ranked and (ranked[0].samples < samples_min or 0 < _samples(small) < samples_min):
        small.append(ranked.pop(0))
    return [*([_together(small)] if len(small) > 1 else small), *ranked]


def _together(parts: Sequence[Part]) -> Part:
    total = _samples(parts)
    share = np.array([p.samples for p in parts]) / total
    loss = float(share @ np.array([p.loss for p in parts]))
    names = ", ".join(p.name for p in parts[:_SHOWN]) + (", …" if len(parts) > _SHOWN else "")
    return Part(
        parts[0].family,
        f"{names} ({len(parts)} pooled)",
        total,
        loss,
        _combined(parts, share, loss),
        "the mean of their losses",
    )


def _combined(parts: Sequence[Part], share: np.ndarray, loss: float) -> Interval | None:
    known = [p for p in parts if p.interval is not None]
    if not known:
        return None
    halves = np.array([_halves(p) for p in parts])
    roots = np.sqrt([p.samples for p in parts])
    widest = np.nanmax(halves * roots[:, None], axis=0)
    halves = np.where(np.isnan(halves), widest / roots[:, None], halves)
    below, above = np.sqrt(((share[:, None] * halves) ** 2).sum(axis=0))
    return Interval(loss - float(below), loss + float(above))


def _halves(part: Part) -> tuple[float, float]:
    """How far the bounds lie from the loss; NaN where there are none."""
    if part.interval is None:
        return math.nan, math.nan
    return part.loss - part.interval.low, part.interval.high - part.loss


def worst_part(parts: Sequence[Part], limit: float, alpha: float) -> Found:
    """Whether every part keeps the limit, or one breaks it.

    To pass, every part's upper bound must be within the limit: no correction is needed (R. L.
    Berger, Technometrics 24, 1982). To fail, one part's loss must exceed the limit by a test with
    Holm's correction; its p-value is that of a normal curve whose quantile at `alpha` is the part's
    lower bound.

    Args:
        parts: one at least; they may overlap.
        limit: of the loss.
        alpha: chance of either error.
    """
    p_values = holm([_p_value(p, limit, alpha) for p in parts])
    failed = [i for i, p in enumerate(p_values) if p <= alpha]
    undecided = [i for i, p in enumerate(parts) if _high(p) > limit and i not in failed]
    if failed:
        verdict, worst = Verdict.FAIL, min(failed, key=lambda i: (p_values[i], -parts[i].loss))
    else:
        verdict = Verdict.INCONCLUSIVE if undecided else Verdict.PASS
        worst = max(range(len(parts)), key=lambda i: (_high(parts[i]), parts[i].loss))
    part = parts[worst]
    others = [str(parts[i]) for i in failed or undecided]
    more = f"; all that do not pass: {', '.join(others[:_SHOWN])}" if len(others) > 1 else ""
    more += ", …" if len(others) > _SHOWN else ""
    told = f"{part}: {part.details}" if part.details else str(part)

    def needed(limit: float) -> int | None:
        if part.interval is None:
            return None
        half = _halves(part)[limit >= part.loss]
        return scaled_samples(part.samples, half, abs(limit - part.loss), alpha)

    return Found(
        part.loss,
        part.samples,
        f"{told}; of {len(parts)} judged{more}",
        part.interval,
        METHOD,
        needed,
        f"samples of {part}",
        verdict,
    )


def _p_value(part: Part, limit: float, alpha: float) -> float:
    """Chance of a loss as large as was found, or larger, were the true one the limit."""
    if part.loss == math.inf:
        return 0.0
    if part.interval is None:
        return 1.0
    below = _halves(part)[0]
    if below <= 0:
        return 0.0 if part.loss > limit else 1.0
    return float(norm.sf(norm.isf(alpha) * (part.loss - limit) / below))


def _high(part: Part) -> float:
    return math.inf if part.interval is None else part.interval.high


def _samples(parts: Sequence[Part]) -> int:
    return sum(p.samples for p in parts)
