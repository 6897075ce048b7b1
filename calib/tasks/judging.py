"""One sample judged by any kind of task, and all samples added up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.results.metrics import QUANTILES, ClassMetric, MetricScore
from calib.tasks.base import Comparison, Kind, Metric
from data_loaders.types import Array, Sample

Flip = Literal["", "worsened", "improved", "sideways", "unlabelled"]
_RESAMPLES = 1000
_WORK_MAX = 4_000_000
"""Samples weighed in all resamples together: fewer resamples of many samples, never below 200."""
_RESAMPLES_MIN = 200


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
    """

    def __init__(self, kind: Kind[Any, Any]) -> None:
        self._kind = kind
        self._labelled: dict[str, tuple[Any, Any]] = {}
        self._agreement: dict[str, Any] = {}
        self.reference_right: int | None = None
        """How many labelled samples FP32 has right; None where there is no right and wrong."""

    def add(self, sample_id: str, verdict: Verdict) -> None:
        """Count one sample."""
        if verdict.own is not None and verdict.reference is not None:
            self._labelled[sample_id] = verdict.own.statistics, verdict.reference.statistics
            if verdict.reference.is_right is not None:
                self.reference_right = (self.reference_right or 0) + verdict.reference.is_right
        self._agreement[sample_id] = verdict.agreement.statistics

    @property
    def labelled(self) -> int:
        """How many samples had a label."""
        return len(self._labelled)

    def _pairs(self) -> tuple[list[Any], list[Any]]:
        """Statistics of the candidate and of FP32, against labels."""
        pairs = [self._labelled[key] for key in sorted(self._labelled)]
        return [own for own, _ in pairs], [reference for _, reference in pairs]

    def metrics(self) -> tuple[MetricScore, ...]:
        """Against the labels, FP32's beside the candidate's; none without labels."""
        if not self._labelled:
            return ()
        ours, theirs = self._pairs()
        own, reference = self._kind.summarise(ours), self._kind.summarise(theirs)
        losses = _resampled(self._kind, ours, theirs)
        return tuple(
            _score(m, own[m.name], reference[m.name], losses[m.name]) for m in self._kind.metrics
        )

    def agreement(self) -> tuple[MetricScore, ...]:
        """The candidate with FP32's answers taken for the truth."""
        if not self._agreement:
            return ()
        statistics = [self._agreement[key] for key in sorted(self._agreement)]
        own = self._kind.summarise(statistics)
        # With labels at hand nobody decides on agreement: it has no bounds then.
        losses = {} if self._labelled else _resampled(self._kind, statistics, None)
        return tuple(
            _score(m, own[m.name], _perfect(m), losses.get(m.name, ())) for m in self._kind.metrics
        )

    def classes(self) -> tuple[ClassMetric, ...]:
        """The kind's figure for each class, where it has classes; against labels if there are."""
        by_class = getattr(self._kind, "by_class", None)
        if by_class is None or not self._labelled:
            return ()
        own, reference = (by_class(statistics) for statistics in self._pairs())
        return tuple(
            ClassMetric(name=name, value=own.get(name, 0.0), reference=value)
            for name, value in reference.items()
        )


def vanished(classes: Sequence[ClassMetric]) -> tuple[str, ...]:
    """The classes that FP32 finds at least in part, and the candidate never."""
    return tuple(c.name for c in classes if c.reference > 0 and c.value == 0)


def _score(
    metric: Metric, value: float, reference: float | None, losses: Sequence[float]
) -> MetricScore:
    return MetricScore(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        value=_known(value),
        reference=None if reference is None else _known(reference),
        resampled_losses=_quantiles(losses),
        resamples=len(losses),
    )


def _perfect(metric: Metric) -> float | None:
    """What a share is at its best; None of what has no best."""
    if metric.unit != "%":
        return None
    return 100.0 if metric.higher_is_better else 0.0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _quantiles(losses: Sequence[float]) -> tuple[float, ...]:
    found = np.asarray([v for v in losses if math.isfinite(v)])
    if len(found) < _RESAMPLES_MIN // 2:
        return ()
    return tuple(float(v) for v in np.quantile(found, QUANTILES))


def _resampled(
    kind: Kind[Any, Any], own: Sequence[Any], reference: Sequence[Any] | None
) -> dict[str, list[float]]:
    """What is lost in each of many resamples, by metric; against perfection without reference.

    Samples are drawn with replacement, the same for both (a paired bootstrap: B. Efron,
    R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8), with a fixed seed. A sample
    counts as often as it was drawn, so nothing is matched or decoded anew.
    """
    ours_all, theirs_all = _table(own), None if reference is None else _table(reference)
    known = theirs_all is not None and isinstance(ours_all, np.ndarray)
    if known and np.array_equal(ours_all, np.asarray(theirs_all), equal_nan=True):
        return {m.name: [0.0] * _RESAMPLES for m in kind.metrics}
    samples = len(own)
    many = int(np.clip(_WORK_MAX // max(samples, 1), _RESAMPLES_MIN, _RESAMPLES))
    rng = np.random.default_rng(0)
    losses: dict[str, list[float]] = {m.name: [] for m in kind.metrics}
    for _ in range(many):
        weights = _drawn(rng, samples)
        ours = kind.summarise(ours_all, weights)
        theirs = None if theirs_all is None else kind.summarise(theirs_all, weights)
        for metric in kind.metrics:
            best = _perfect(metric) if theirs is None else theirs[metric.name]
            change = math.nan if best is None else best - ours[metric.name]
            losses[metric.name].append(change if metric.higher_is_better else -change)
    return losses


def _table(statistics: Sequence[Any]) -> Any:
    """As one array where all are arrays of one shape: stacked once, not in every resample."""
    shapes = {s.shape if isinstance(s, np.ndarray) else None for s in statistics}
    return np.stack(statistics) if len(shapes) == 1 and None not in shapes else statistics


def _drawn(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    drawn = rng.integers(0, samples, samples)
    return np.bincount(drawn, minlength=samples).astype(np.float64)
