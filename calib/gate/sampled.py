"""The limits whose values are statistics of samples: what was found, and its bounds."""

import math
from collections.abc import Sequence

import numpy as np

from calib.gate.facts import Facts, Found
from calib.gate.resampling import bootstrap_interval, growth_pct, mean_of
from calib.gate.sample_size import scaled_samples, share_samples
from calib.gate.statistics import (
    Interval,
    PairedCounts,
    exact_interval,
    mean_drop_interval,
    ratio_interval,
    tango_interval,
)
from calib.gate.worst import Slice, pooled, samples_to_decide, worst_slice
from calib.gate.worst_loss import worst_figure
from calib.results import ClassScore, Verdict

TANGO = "Tango's score interval, corrected"
_UNKNOWN = "this run was made by a version that kept no paired counts: run it again"
_SHOWN = 3


def accuracy_drop_points(facts: Facts) -> Found:
    """Accuracy lost against FP32."""
    counts = _accuracy_counts(facts)
    if counts is None:
        return Found(None, 0, "no labelled samples")
    return Found(
        100 * counts.drop,
        counts.samples,
        _lost_and_gained(counts),
        tango_interval(counts, facts.alpha, corrected=True).scaled(100),
        TANGO,
        lambda limit: samples_to_decide(counts, limit / 100, facts.alpha),
    )


def accuracy_drop_relative(facts: Facts) -> Found:
    """Accuracy lost, as a share of FP32's."""
    counts = _accuracy_counts(facts)
    if counts is None:
        return Found(None, 0, "no labelled samples")
    before = counts.right + counts.lost
    if not before:
        return Found(None, counts.samples, "FP32 is never right")
    share = before / counts.samples
    ratio = ratio_interval(counts, facts.alpha)
    return Found(
        100 * counts.drop / share,
        counts.samples,
        _lost_and_gained(counts),
        Interval(100 * (1 - ratio.high), 100 * (1 - ratio.low)),
        "Nam and Blackwelder's score interval, corrected",
        # To lose a share of what is right is to lose that much less of all.
        lambda limit: samples_to_decide(counts, limit * share / 100, facts.alpha),
    )


def macro_recall_drop(facts: Facts) -> Found:
    """Mean recall over the classes lost against FP32."""
    score = facts.candidate.score
    if score is None or score.macro_recall_pct is None or score.reference_macro_recall_pct is None:
        return Found(None, 0, "no labelled samples")
    now, before = score.macro_recall_pct, score.reference_macro_recall_pct
    classes = _class_slices(score.classes)
    if classes is None:
        return Found(None, score.samples, _UNKNOWN)
    interval = mean_drop_interval([c.counts for c in classes], facts.alpha).scaled(100)
    return _scaling(
        Found(
            before - now,
            score.samples,
            f"{now:.2f} % against {before:.2f} %",
            interval,
            "Zou and Donner's interval of the mean of Tango's",
        ),
        facts.alpha,
    )


def worst_class_drop(facts: Facts) -> Found:
    """Recall lost by the class that loses most; of other kinds, their own figure of a class."""
    score, limits = facts.candidate.score, facts.limits
    limit = limits.worst_class_drop_points_max or 0.0
    if score is not None and not score.classes and score.by_class:
        return worst_figure(score.by_class, limits.worst_class_min_samples, limit, facts.alpha)
    known = _class_slices(score.classes if score else ())
    if known is None:
        return Found(None, 0, _UNKNOWN)
    slices = pooled(known, limits.worst_class_min_samples)
    if not slices:
        return Found(None, 0, "no labelled samples, or a kind of task without classes")
    return _worst(slices, limit, facts.alpha)


def worst_slice_drop(facts: Facts) -> Found:
    """Accuracy lost by the slice that loses most."""
    limits = facts.limits
    if facts.counts() is None and any(s.figure is not None for s in facts.candidate.slices):
        why = "no answer of this kind is right or wrong: set worst_slice_loss_max"
        return Found(None, 0, why)
    families: dict[str, list[Slice]] = {}
    for s in facts.candidate.slices:
        counts = PairedCounts(s.samples, s.worsened, s.improved, s.right)
        families.setdefault(s.family, []).append(Slice(s.family, s.name, counts))
    slices = [s for f in families.values() for s in pooled(f, limits.worst_slice_min_samples)]
    if not slices:
        return Found(None, 0, "no labelled samples, or nothing to slice them by")
    return _worst(slices, limits.worst_slice_drop_points_max or 0.0, facts.alpha)


def flips(facts: Facts) -> Found:
    """Predictions unlike FP32's."""
    summary = facts.candidate.flips
    if summary is None or not summary.samples:
        return Found(None, 0, "no samples were compared")
    details = (
        f"{summary.total} flips: {summary.worsened} worsened, {summary.improved} improved, "
        f"{summary.sideways} sideways"
    )
    return _share(summary.total, summary.samples, details, facts.alpha)


def worsened(facts: Facts) -> Found:
    """Right in FP32, wrong in the candidate."""
    counts = facts.counts()
    if counts is None:
        return Found(None, 0, "no labelled samples")
    return _share(counts.lost, counts.samples, f"{counts.lost} samples", facts.alpha)


def mean_abs_error_increase(facts: Facts) -> Found:
    """Growth of the mean absolute error."""
    score = facts.candidate.score
    if score is None or score.mean_abs_error is None or not score.reference_mean_abs_error:
        return Found(None, 0, "no labelled samples, or FP32 is exact")
    value = 100 * (score.mean_abs_error / score.reference_mean_abs_error - 1)
    details = f"{score.mean_abs_error:.5g} against {score.reference_mean_abs_error:.5g}"
    if not math.isfinite(value):
        return Found(value, score.samples, details, verdict=Verdict.FAIL)
    if not score.sample_errors:
        return Found(None, score.samples, _UNKNOWN)
    own, reference = np.array(score.sample_errors, dtype=np.float64).T
    found = bootstrap_interval([own, reference], growth_pct, facts.alpha)
    bounds, method = found if found is not None else (None, "")
    return _scaling(Found(value, score.samples, details, bounds, method), facts.alpha)


def embedding_cosine_mean(facts: Facts) -> Found:
    """Mean cosine to FP32's embedding."""
    score = facts.candidate.score
    if score is None or score.mean_cosine is None or math.isnan(score.mean_cosine):
        return Found(None, 0, "no embeddings were compared")
    if not score.sample_cosines:
        return Found(None, score.samples, _UNKNOWN)
    cosines = np.array(score.sample_cosines, dtype=np.float64)
    found = bootstrap_interval([cosines], mean_of, facts.alpha)
    bounds, method = found if found is not None else (None, "")
    return _scaling(
        Found(score.mean_cosine, score.samples, "mean over the samples", bounds, method),
        facts.alpha,
    )


def _accuracy_counts(facts: Facts) -> PairedCounts | None:
    """None where the task has no accuracy: other kinds have limits on metrics of their own."""
    score = facts.candidate.score
    return facts.counts() if score is not None and score.accuracy_pct is not None else None


def _lost_and_gained(counts: PairedCounts) -> str:
    before, now = counts.right + counts.lost, counts.right + counts.gained
    return (
        f"{100 * now / counts.samples:.2f} % against {100 * before / counts.samples:.2f} %: "
        f"{counts.lost} worsened, {counts.gained} improved"
    )


def _share(count: int, samples: int, details: str, alpha: float) -> Found:
    guess = (count + 0.5) / (samples + 1)
    return Found(
        100 * count / samples,
        samples,
        details,
        exact_interval(count, samples, alpha).scaled(100),
        "Clopper and Pearson's exact interval",
        lambda limit: share_samples(guess, limit / 100, alpha),
    )


def _scaling(found: Found, alpha: float) -> Found:
    """With the number of samples that would decide, for an interval that is not a count's."""
    bounds, value = found.interval, found.value
    if bounds is None or value is None:
        return found

    def needed(limit: float) -> int | None:
        half = bounds.high - value if limit >= value else value - bounds.low
        return scaled_samples(found.samples, half, abs(limit - value), alpha)

    return Found(value, found.samples, found.details, bounds, found.method, needed)


def _class_slices(classes: Sequence[ClassScore]) -> list[Slice] | None:
    """None if a class was written by a version that knew no paired counts."""
    found = []
    for c in classes:
        if c.worsened is None or c.improved is None:
            return None
        right = max(0, round(c.reference_recall_pct * c.samples / 100) - c.worsened)
        counts = PairedCounts(c.samples, c.worsened, c.improved, right)
        found.append(Slice("class", c.name, counts))
    return found


def _worst(slices: Sequence[Slice], limit: float, alpha: float) -> Found:
    worst = worst_slice(slices, limit / 100, alpha)
    counts = worst.slice.counts
    others = worst.failed or worst.open
    among = f"{worst.slice}: {counts.lost} worsened, {counts.gained} improved of {counts.samples}"
    more = f"; all that do not pass: {', '.join(others[:_SHOWN])}" if len(others) > 1 else ""
    more += ", …" if len(others) > _SHOWN else ""
    return Found(
        100 * counts.drop,
        counts.samples,
        f"{among}; of {worst.judged} slices judged{more}",
        worst.interval.scaled(100),
        f"{TANGO}; Holm's correction before a slice fails",
        lambda limit: samples_to_decide(counts, limit / 100, alpha),
        f"samples of {worst.slice}",
        worst.verdict,
    )
