"""The worst of many parts of the samples, by bounds of what a metric loses there.

The same rules as for slices whose answers are counted, see `calib.gate.worst`; the bounds are those
of a bootstrap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from calib.gate.facts import SPAN, Facts, Found, loss_interval
from calib.gate.resampling import SAMPLES_MIN, with_unseen
from calib.gate.sample_size import scaled_samples
from calib.gate.statistics import Interval, holm
from calib.results import ClassMetric, MetricScore, SliceScore, Verdict
from calib.results.metrics import loss_bounds

METHOD = (
    "paired percentile bootstrap of the samples, with room for unseen ones; Holm's correction "
    "before a part fails"
)
_UNKNOWN = "this run was made by a version that kept no resampled losses: run it again"
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


def worst_slice_loss(facts: Facts) -> Found:
    """What the task's metric loses in the slice that loses most."""
    limits = facts.limits
    families: dict[str, list[Part]] = {}
    for s in facts.candidate.slices:
        if s.figure is not None and s.figure.loss is not None:
            families.setdefault(s.family, []).append(_slice_part(s, s.figure, facts.alpha))
    parts = [p for f in families.values() for p in pooled_parts(f, limits.worst_slice_min_samples)]
    if not parts:
        if facts.candidate.slices:
            return Found(None, 0, "classes are counted: set worst_slice_drop_points_max")
        return Found(None, 0, "no labelled samples, or nothing to slice them by")
    return worst_part(parts, limits.worst_slice_loss_max or 0.0, facts.alpha)


def _slice_part(found: SliceScore, figure: MetricScore, alpha: float) -> Part:
    samples = figure.samples or found.samples
    bounds = loss_interval(figure, samples, alpha)
    # A bootstrap of very few knows nothing; of a share it is known at least how far it can fall.
    bears = figure.unit == "%" or samples >= SAMPLES_MIN
    return Part(
        found.family,
        found.name,
        samples,
        0.0 if figure.loss is None else figure.loss,
        bounds if bears else None,
        f"{figure.title} {figure.text} against {figure.reference_text}",
    )


def worst_figure(
    classes: Sequence[ClassMetric], samples_min: int, limit: float, alpha: float
) -> Found:
    """What the class that loses most loses of its figure, in points.

    Args:
        classes: one at least.
        samples_min: classes with fewer samples are pooled.
        limit: of the loss.
        alpha: chance of either error.
    """
    if not all(c.samples for c in classes):
        return Found(None, 0, _UNKNOWN)
    parts = [
        Part(
            "class",
            c.name,
            c.samples,
            c.loss,
            class_interval(c, alpha),
            f"{c.value:.2f} % against {c.reference:.2f} %",
        )
        for c in classes
    ]
    return worst_part(pooled_parts(parts, samples_min), limit, alpha)


def class_interval(found: ClassMetric, alpha: float) -> Interval:
    """Bounds of what a class truly loses, with room for losses that no sample shows.

    Args:
        found: with its number of samples.
        alpha: chance of an error on each side.
    """
    bounds = loss_bounds(found.resampled_losses, alpha)
    # Even where too little was resampled, a class's figure is between 0 and 100 %.
    known = Interval(*bounds) if bounds else Interval(found.loss, found.loss)
    return with_unseen(known, found.loss, found.samples, alpha, SPAN)


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
