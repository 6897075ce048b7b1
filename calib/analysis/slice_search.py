"""A search for what the samples that INT8 gets wrong have in common: exploratory.

A tree of depth two, grown greedily: the condition that tells most loss from little, then the one
that does so among the samples that fulfil it. Half of the samples grow it and the other half say
what is lost, so that what was found by looking for it is not judged by what it was found in (S.
Athey, G. Imbens, Proceedings of the National Academy of Sciences 113, 2016: honest trees).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, mannwhitneyu

from calib.analysis.slices import CLASS, Features, Outcome, as_numbers
from calib.gate.statistics import holm
from calib.results import FoundSlice

Bools = NDArray[np.bool_]
_SHARE_MIN = 0.02
_SAMPLES_MIN = 20
"""A slice holds at least that share, and that number, of the half that it was found in."""
_LOST_MIN = 4
_EFFECT_MIN = 0.2
_CUTS = 8
_ROOTS = 3
_P_MAX = 0.05


@dataclass(frozen=True, slots=True)
class _Condition:
    feature: str
    text: str
    holds: Bools


def find_slices(
    outcomes: Sequence[Outcome], known: Mapping[str, Features]
) -> tuple[FoundSlice, ...]:
    """Slices that lose more than the rest, the surest first; the order of samples plays no part.

    Up to three first conditions of different features are followed, each with its best second one.
    Of these slices those are returned whose excess of worsened samples, in the half that the search
    did not see, has p <= 0.05 by Fisher's exact test with Holm's correction for their number.

    Args:
        outcomes: of the labelled samples under one candidate.
        known: what the samples can be told apart by, by id.
    """
    rows = sorted(outcomes, key=lambda o: o.id)
    halves = np.array([_half(o.id) for o in rows], dtype=np.bool_)
    lost = np.array([o.lost for o in rows], dtype=np.float64)
    if (lost[halves] > 0).sum() < _LOST_MIN:
        return ()
    slices = [
        _slice(text, lost[~halves & holds], lost[~halves & ~holds])
        for text, holds in _grown(rows, known, lost, halves)
    ]
    return _sure(slices)


def find_slices_by_score(
    outcomes: Sequence[Outcome], known: Mapping[str, Features], score: str
) -> tuple[FoundSlice, ...]:
    """The same where a sample's score tells more than whether its answer is right.

    The test is Mann and Whitney's (Annals of Mathematical Statistics 18, 1947), one-sided, with
    Holm's correction; besides, the mean loss must exceed that elsewhere by a fifth of a standard
    deviation of the losses (a small effect: J. Cohen, 1988), as a score moves a little everywhere.

    Args:
        outcomes: of the samples under one candidate.
        known: what the samples can be told apart by, by id.
        score: what a sample's score is, in words.
    """
    rows = sorted(outcomes, key=lambda o: o.id)
    halves = np.array([_half(o.id) for o in rows], dtype=np.bool_)
    lost = np.array([o.score_lost for o in rows], dtype=np.float64)
    # An answer that is no number loses more than any other, by an amount that can be reckoned with.
    largest = float(np.abs(lost[np.isfinite(lost)]).max(initial=0.0)) or 1.0
    lost = np.nan_to_num(lost, nan=0.0, posinf=2 * largest, neginf=-2 * largest)
    if (lost[halves] > 0).sum() < _LOST_MIN:
        return ()
    counts = np.array([o.lost for o in rows], dtype=np.float64)
    least = _EFFECT_MIN * float(lost[~halves].std()) if (~halves).any() else 0.0
    slices = []
    for text, holds in _grown(rows, known, lost, halves):
        inside, outside = lost[~halves & holds], lost[~halves & ~holds]
        if min(len(inside), len(outside)) < 2 or inside.mean() - outside.mean() <= least:
            continue
        counted = _slice(text, counts[~halves & holds], counts[~halves & ~holds])
        slices.append(
            counted.model_copy(
                update={
                    "loss": float(inside.mean()),
                    "rest_loss": float(outside.mean()),
                    "score": score,
                    "p_value": float(mannwhitneyu(inside, outside, alternative="greater").pvalue),
                }
            )
        )
    return _sure(slices)


def _grown(
    rows: Sequence[Outcome], known: Mapping[str, Features], lost: NDArray[np.float64], halves: Bools
) -> list[tuple[str, Bools]]:
    """The slices that one half of the samples suggests."""
    found: list[tuple[str, Bools]] = []
    conditions = list(_conditions(rows, known))
    for first in _best(conditions, lost, halves, _ROOTS):
        found.append((first.text, first.holds))
        inner = [c for c in conditions if c.feature != first.feature]
        found.extend(
            (f"{first.text}, {second.text}", first.holds & second.holds)
            for second in _best(inner, lost, halves & first.holds, 1)
        )
    # Two ways to the same samples are one slice.
    distinct = {holds.tobytes(): (text, holds) for text, holds in reversed(found)}
    return list(distinct.values())


def _half(name: str) -> bool:
    return bool(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[0] & 1)


def _conditions(rows: Sequence[Outcome], known: Mapping[str, Features]) -> Iterator[_Condition]:
    """Everything that a sample can be asked: is it of this value, is it at most so large.

    FP32's probability is not asked: answers near the boundary change most wherever they come from.
    """
    table = [{**known.get(o.id, {}), CLASS: o.label} for o in rows]
    for feature in sorted({name for row in table for name in row}):
        values = [row.get(feature, "") for row in table]
        numbers = as_numbers({str(i): v for i, v in enumerate(values)})
        if numbers is not None and len(set(numbers.values())) > _CUTS:
            yield from _cuts(feature, np.array(list(numbers.values())))
            continue
        texts = np.array([str(v) for v in values], dtype=object)
        for value in sorted(set(texts.tolist())):
            holds = np.asarray(texts == value, dtype=np.bool_)
            if holds.sum() >= 2 * _SAMPLES_MIN:
                yield _Condition(feature, f"{feature} is {value}", holds)


def _cuts(feature: str, numbers: NDArray[np.float64]) -> Iterator[_Condition]:
    edges = np.quantile(numbers, np.arange(1, _CUTS) / _CUTS, method="inverted_cdf")
    for edge in np.unique(edges).tolist():
        yield _Condition(feature, f"{feature} at most {edge:.4g}", numbers <= edge)
        yield _Condition(feature, f"{feature} over {edge:.4g}", numbers > edge)


def _best(
    conditions: Sequence[_Condition], lost: NDArray[np.float64], among: Bools, count: int
) -> list[_Condition]:
    """The conditions of different features with the clearest excess of loss."""
    scores = [(_excess(lost[among], c.holds[among]), c) for c in conditions]
    ranked = sorted((s for s in scores if s[0] > 0), key=lambda s: (-s[0], s[1].text))
    best: dict[str, _Condition] = {}
    for _, condition in ranked:
        best.setdefault(condition.feature, condition)
    return list(best.values())[:count]


def _excess(lost: NDArray[np.float64], holds: Bools) -> float:
    """Difference of the mean loss inside and outside, in standard errors; 0 for what is small."""
    inside, outside = lost[holds], lost[~holds]
    if len(inside) < max(_SAMPLES_MIN, _SHARE_MIN * len(lost)) or len(outside) < _SAMPLES_MIN:
        return 0.0
    error = float(np.sqrt(lost.var() * (1 / len(inside) + 1 / len(outside))))
    return float(inside.mean() - outside.mean()) / error if error else 0.0


def _sure(slices: Sequence[FoundSlice]) -> tuple[FoundSlice, ...]:
    corrected = holm([s.p_value for s in slices])
    sure = [
        s.model_copy(update={"p_value": p})
        for s, p in zip(slices, corrected, strict=True)
        if p <= _P_MAX
    ]
    return tuple(sorted(sure, key=lambda s: (s.p_value, s.condition)))


def _slice(text: str, inside: NDArray[np.float64], outside: NDArray[np.float64]) -> FoundSlice:
    bad, rest_bad = int((inside > 0).sum()), int((outside > 0).sum())
    table = [[bad, len(inside) - bad], [rest_bad, len(outside) - rest_bad]]
    return FoundSlice(
        condition=text,
        samples=len(inside),
        worsened=bad,
        improved=int((inside < 0).sum()),
        rest_samples=len(outside),
        rest_worsened=rest_bad,
        rest_improved=int((outside < 0).sum()),
        p_value=float(fisher_exact(table, alternative="greater").pvalue),
    )
