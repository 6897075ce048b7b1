"""What a candidate loses in many resamples of the samples: a paired bootstrap, by weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.tasks.base import Gathering, HasClasses, Kind, Metric, Weighing

RESAMPLES = 1000
RESAMPLES_MIN = 200
_AT_ONCE = 100
_WORK_MAX = 4_000_000
"""Samples weighed in all resamples together: fewer resamples of many samples, never below 200."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """What is lost in each resample, above 0 is worse; NaN where the resample says nothing.

    Attributes:
        metrics: float64 (resamples,), by metric.
        classes: the same by class, where the kind has figures of classes.
    """

    metrics: dict[str, Floats]
    classes: dict[str, Floats]


def gathered(kind: Kind[Any, Any], statistics: Sequence[Any]) -> Any:
    """Statistics in the form that the kind weighs fastest: put together once, not each time."""
    if isinstance(kind, Gathering):
        return kind.gathered(statistics)
    shapes = {s.shape if isinstance(s, np.ndarray) else None for s in statistics}
    return np.stack(statistics) if len(shapes) == 1 and None not in shapes else statistics


def resampled_losses(
    kind: Kind[Any, Any],
    own: Any,
    reference: Any | None,
    most: int = RESAMPLES,
    *,
    with_classes: bool = True,
) -> Losses:
    """What is lost in each of many resamples; against perfection without reference.

    Samples are drawn with replacement, the same for both (a paired bootstrap: B. Efron,
    R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8), with a fixed seed. A sample
    counts as often as it was drawn, so nothing is matched or decoded anew.

    Args:
        kind: of the task.
        own: the candidate's statistics, as `gathered` gives them.
        reference: FP32's, of the same samples.
        most: resamples, unless there are very many samples.
        with_classes: whether figures of classes are asked for.
    """
    count = len(own)
    if _are_equal(own, reference):
        names = kind.by_class(reference) if isinstance(kind, HasClasses) else ()
        return Losses(
            {m.name: np.zeros(most) for m in kind.metrics}, {name: np.zeros(most) for name in names}
        )
    many = int(np.clip(_WORK_MAX // max(count, 1), RESAMPLES_MIN, most))
    rng = np.random.default_rng(0)
    parts = []
    for begin in range(0, many, _AT_ONCE):
        rows = min(_AT_ONCE, many - begin)
        weights = np.stack([drawn(rng, count) for _ in range(rows)])
        theirs = reference
        if reference is not None:
            theirs = _weighed(kind, reference, weights, with_classes=with_classes)
        ours = _weighed(kind, own, weights, with_classes=with_classes and reference is not None)
        parts.append(_losses(kind, ours, theirs, rows))
    return Losses(*(_joined(tables) for tables in zip(*parts, strict=True)))


_Figures = dict[str, Floats]


def _weighed(
    kind: Kind[Any, Any], statistics: Any, weights: Floats, *, with_classes: bool
) -> tuple[_Figures, _Figures]:
    """Metrics and figures of classes in each resample."""
    if isinstance(kind, Weighing):
        return kind.weighed(statistics, weights)
    metrics = [kind.summarise(statistics, row) for row in weights]
    classes: list[dict[str, float]] = []
    if with_classes and isinstance(kind, HasClasses):
        classes = [kind.by_class(statistics, row) for row in weights]
    names = dict.fromkeys(name for row in classes for name in row)
    return (
        {m.name: np.array([row[m.name] for row in metrics]) for m in kind.metrics},
        {name: np.array([row.get(name, math.nan) for row in classes]) for name in names},
    )


def _losses(
    kind: Kind[Any, Any],
    own: tuple[_Figures, _Figures],
    reference: tuple[_Figures, _Figures] | None,
    rows: int,
) -> tuple[_Figures, _Figures]:
    metrics = {}
    for metric in kind.metrics:
        best = perfect(metric)
        known = np.full(rows, math.nan if best is None else best)
        change = (known if reference is None else reference[0][metric.name]) - own[0][metric.name]
        metrics[metric.name] = change if metric.higher_is_better else -change
    if reference is None:
        return metrics, {}
    # A class that occurs and is not even guessed at has no figure of its own.
    return metrics, {
        name: there - np.nan_to_num(own[1].get(name, np.zeros(rows)))
        for name, there in reference[1].items()
    }


def _joined(tables: Sequence[_Figures]) -> _Figures:
    """The parts one after the other; NaN where a part has no such figure."""
    names = dict.fromkeys(name for table in tables for name in table)
    if all(len(table) == len(names) for table in tables):
        return {name: np.concatenate([table[name] for table in tables]) for name in names}
    rows = [len(next(iter(table.values()), ())) for table in tables]
    return {
        name: np.concatenate(
            [t.get(name, np.full(n, math.nan)) for t, n in zip(tables, rows, strict=True)]
        )
        for name in names
    }


def _are_equal(own: Any, reference: Any) -> bool:
    arrays = isinstance(own, np.ndarray) and isinstance(reference, np.ndarray)
    return arrays and np.array_equal(own, reference, equal_nan=True)


def resampled_means(own: Floats, reference: Floats, most: int) -> Floats:
    """By how much the mean of the samples' scores falls in each resample, float64 (resamples,)."""
    many = int(np.clip(_WORK_MAX // max(len(own), 1), RESAMPLES_MIN, most))
    rng, fall = np.random.default_rng(0), reference - own
    return np.array([drawn(rng, len(own)) @ fall for _ in range(many)]) / max(len(own), 1)


def drawn(rng: np.random.Generator, samples: int) -> Floats:
    """How often each sample is drawn when as many are drawn as there are, float64 (samples,)."""
    found = rng.integers(0, samples, samples)
    return np.bincount(found, minlength=samples).astype(np.float64)


def perfect(metric: Metric) -> float | None:
    """What a share is at its best; None of what has no best."""
    if metric.unit != "%":
        return None
    return 100.0 if metric.higher_is_better else 0.0


def quantiles(losses: Sequence[float] | Floats, at: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of the resampled losses that are numbers; none where these are few."""
    found = np.asarray(losses, dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) < RESAMPLES_MIN // 2:
        return ()
    return tuple(float(v) for v in np.quantile(found, at))
