"""One sample judged by any kind of task, and all samples added up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calib.errors import DataError
from calib.results.metrics import COARSE, QUANTILES, ClassMetric, MetricScore
from calib.tasks.base import Comparison, HasClasses, Kind, Metric, Resting
from calib.tasks.resampling import (
    RESAMPLES,
    Floats,
    Losses,
    gathered,
    perfect,
    quantiles,
    resampled_losses,
    resampled_means,
)
from data_loaders.types import Array, Sample

_OF_PARTS = 400
"""Resamples of a part of the samples: there are many parts."""
Flip = Literal["", "worsened", "improved", "sideways", "unlabelled"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sample, FP32 beside a candidate.

    Attributes:
        label: what is right, in words; None if that is not known.
        reference_words: FP32's answer.
        words: the candidate's.
        reference_score: FP32's score, in the unit of the kind's sample metric.
        score: the candidate's.
        flip: how the answer changed; empty if it did not, or there is no right and wrong.
        own: the candidate against the label; None without one.
        reference: FP32 against the label; None without one.
        agreement: the candidate against FP32's answer.
        answers: FP32's answer and the candidate's, as the kind has them.
    """

    label: str | None
    reference_words: str
    words: str
    reference_score: float
    score: float
    flip: Flip
    own: Comparison | None
    reference: Comparison | None
    agreement: Comparison
    answers: tuple[Any, Any] = (None, None)


def judge(
    kind: Kind[Any, Any],
    sample: Sample,
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    own_kind: Kind[Any, Any] | None = None,
) -> Verdict:
    """Judge one sample: against its label, and against FP32's answer.

    Args:
        kind: of the task.
        sample: with its label, or without.
        reference: FP32's outputs by name, without batch axis.
        candidate: the candidate's.
        own_kind: what reads the candidate's outputs, where it has collected samples of its own.

    Raises:
        DataError: if label and output do not fit, or FP32's output is not finite where the kind
            reads all of it. Others have padding, where anything may be.
    """
    for name in kind.outputs if getattr(kind, "reads_all", False) else ():
        if name in reference and not np.isfinite(reference[name]).all():
            raise DataError(
                f"sample {sample.id}",
                "FP32's output is not finite",
                got=name,
                fix="Check the FP32 model.",
            )
    expected, said = kind.answer(reference, sample), (own_kind or kind).answer(candidate, sample)
    target = kind.target(sample)
    stand_in = kind.target_from_answer(expected)
    try:
        agreement = kind.compare(said, stand_in)
        own = None if target is None else kind.compare(said, target)
        known = None if target is None else kind.compare(expected, target)
    except ValueError as error:
        raise DataError(
            f"sample {sample.id}", f"the label does not fit the output: {error}"
        ) from error
    shown = own or agreement
    return Verdict(
        label=None if target is None else kind.target_words(target),
        reference_words=kind.words(expected),
        words=kind.words(said),
        reference_score=(known or kind.compare(expected, stand_in)).score,
        score=shown.score,
        flip=_flip(kind.is_same(expected, said), known, own, agreement),
        own=own,
        reference=known,
        agreement=agreement,
        answers=(expected, said),
    )


def _flip(
    is_same: bool, known: Comparison | None, own: Comparison | None, agreement: Comparison
) -> Flip:
    if is_same or agreement.is_right is None:
        return ""
    if known is None or own is None:
        return "unlabelled"
    if bool(known.is_right) != bool(own.is_right):
        return "worsened" if known.is_right else "improved"
    return "sideways" if not own.is_right else ""


class Tally:
    """Adds samples up; what each adds to the metrics is held, for intervals.

    The order of the samples changes nothing: they are taken in the order of their ids.

    Args:
        kind: of the task.
        resamples: of the samples, for the bounds.
    """

    def __init__(self, kind: Kind[Any, Any], resamples: int = RESAMPLES) -> None:
        self._kind, self._resamples = kind, resamples
        self._labelled: dict[str, tuple[Any, Any]] = {}
        self._agreement: dict[str, Any] = {}
        self._scores: dict[str, tuple[float, float]] = {}
        self._together: tuple[Any, Any] | None = None
        self._losses: Losses | None = None
        self.reference_right: int | None = None
        """How many labelled samples FP32 has right; None where there is no right and wrong."""

    def add(self, sample_id: str, verdict: Verdict) -> None:
        """Count one sample."""
        self._together = self._losses = None
        if verdict.own is not None and verdict.reference is not None:
            self._labelled[sample_id] = verdict.own.statistics, verdict.reference.statistics
            if verdict.reference.is_right is not None:
                self.reference_right = (self.reference_right or 0) + verdict.reference.is_right
        self._agreement[sample_id] = verdict.agreement.statistics
        self._scores[sample_id] = verdict.score, verdict.reference_score

    def part(self, ids: Sequence[str]) -> MetricScore | None:
        """The kind's first metric on a part of the samples, with bounds of what is lost there.

        Where that says little of few samples, the mean of their scores stands for it.

        Args:
            ids: of the part; samples that were not added count for nothing.
        """
        names = sorted(name for name in set(ids) if name in self._scores)
        if not names:
            return None
        if getattr(self._kind, "slices_by_score", False):
            return self._mean_score(names)
        pairs = [self._labelled[name] for name in names if name in self._labelled]
        if not pairs:
            return None
        ours, theirs = (gathered(self._kind, [pair[side] for pair in pairs]) for side in (0, 1))
        metric = self._kind.metrics[0]
        own, reference = self._kind.summarise(ours), self._kind.summarise(theirs)
        losses = resampled_losses(self._kind, ours, theirs, _OF_PARTS, with_classes=False)
        found = _score(
            metric, own[metric.name], reference[metric.name], losses.metrics[metric.name]
        )
        return _coarse(found, losses.metrics[metric.name], len(pairs))

    def _mean_score(self, names: Sequence[str]) -> MetricScore:
        metric = self._kind.sample_metric
        own, reference = np.array([self._scores[name] for name in names], dtype=np.float64).T
        falls = resampled_means(own, reference, _OF_PARTS)
        losses = falls if metric.higher_is_better else -falls
        found = _score(metric, float(own.mean()), float(reference.mean()), losses)
        return _coarse(found, losses, len(names))

    @property
    def labelled(self) -> int:
        """How many samples had a label."""
        return len(self._labelled)

    def _sides(self) -> tuple[Any, Any]:
        """Statistics of the candidate and of FP32, against labels, put together once."""
        if self._together is None:
            pairs = [self._labelled[key] for key in sorted(self._labelled)]
            self._together = (
                gathered(self._kind, [own for own, _ in pairs]),
                gathered(self._kind, [reference for _, reference in pairs]),
            )
        return self._together

    def metrics(self) -> tuple[MetricScore, ...]:
        """Against the labels, FP32's beside the candidate's; none without labels."""
        if not self._labelled:
            return ()
        ours, theirs = self._sides()
        own, reference = self._kind.summarise(ours), self._kind.summarise(theirs)
        losses = self._resampled()
        rests = self._kind.rests_on(theirs) if isinstance(self._kind, Resting) else {}
        return tuple(
            _score(m, own[m.name], reference[m.name], losses.metrics[m.name], rests.get(m.name))
            for m in self._kind.metrics
        )

    def _resampled(self) -> Losses:
        """Against the labels; drawn once for the metrics and the classes."""
        if self._losses is None:
            self._losses = resampled_losses(self._kind, *self._sides(), self._resamples)
        return self._losses

    def agreement(self) -> tuple[MetricScore, ...]:
        """The candidate with FP32's answers taken for the truth."""
        if not self._agreement:
            return ()
        statistics = [self._agreement[key] for key in sorted(self._agreement)]
        together = gathered(self._kind, statistics)
        own = self._kind.summarise(together)
        losses = resampled_losses(self._kind, together, None, self._resamples)
        return tuple(
            _score(m, own[m.name], perfect(m), losses.metrics[m.name]) for m in self._kind.metrics
        )

    def classes(self) -> tuple[ClassMetric, ...]:
        """The kind's figure for each class, where it has classes; against labels if there are."""
        by_class = getattr(self._kind, "by_class", None)
        if by_class is None or not self._labelled:
            return ()
        ours, theirs = self._sides()
        own, reference = by_class(ours), by_class(theirs)
        losses, samples = {}, {}
        if isinstance(self._kind, HasClasses):
            losses, samples = self._resampled().classes, self._kind.class_samples(theirs)
        return tuple(
            ClassMetric(
                name=name,
                value=own.get(name, 0.0),
                reference=value,
                samples=samples.get(name, 0),
                resampled_losses=quantiles(losses.get(name, ()), COARSE),
            )
            for name, value in reference.items()
        )


def vanished(classes: Sequence[ClassMetric]) -> tuple[str, ...]:
    """The classes that FP32 finds at least in part, and the candidate never."""
    return tuple(c.name for c in classes if c.reference > 0 and c.value == 0)


def _score(
    metric: Metric,
    value: float,
    reference: float | None,
    losses: Floats,
    samples: int | None = None,
) -> MetricScore:
    return MetricScore(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        value=_known(value),
        reference=None if reference is None else _known(reference),
        resampled_losses=quantiles(losses, QUANTILES),
        resamples=len(losses),
        samples=samples,
    )


def _coarse(found: MetricScore, losses: Floats, samples: int) -> MetricScore:
    """With what a figure of one part of many needs, and no more."""
    return found.model_copy(
        update={"resampled_losses": quantiles(losses, COARSE), "samples": samples}
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
