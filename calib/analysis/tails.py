"""The samples that a candidate gets most wrong, and how far all of them moved."""

import base64
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.analysis.accuracy import Judged, SamplePair, ScoreAccumulator, Task, judge_pair
from calib.analysis.probability import are_probabilities, probabilities
from calib.results import (
    CONFIDENT_AT,
    PERCENTILES,
    ConfidentFlips,
    FlipSummary,
    MetricScore,
    Precision,
    RivalAnswer,
    SampleVerdict,
    TailSummary,
    TaskKind,
    TaskScore,
)
from calib.tasks.base import Drawing, Kind
from data_loaders.types import Sample

_TEXT_CHARACTERS = 2000
OnVerdict = Callable[[SampleVerdict], None]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one candidate's answers came to; `part` is its figure on some samples, by their ids."""

    score: TaskScore
    flips: FlipSummary
    tail: tuple[SampleVerdict, ...]
    moved: TailSummary
    not_finite: int
    part: Callable[[Sequence[str]], MetricScore | None]


def analyse(
    task: Task,
    pairs: Iterable[SamplePair],
    tail: int,
    on_row: OnVerdict,
) -> Analysis:
    """Judge every sample once; the order of the samples does not change the result.

    Args:
        task: what the outputs mean.
        pairs: FP32 and candidate, a sample at a time.
        tail: how many of the worst samples to keep.
        on_row: receives each verdict, without text or thumbnail.

    Raises:
        DataError: see `judge_pair`.
    """
    scores, worst, moved, not_finite = ScoreAccumulator(task), Tail(tail, task.kind), Movement(), 0
    for pair in pairs:
        judged = judge_pair(task, pair)
        if task.name is TaskKind.CLASSIFICATION:
            judged = replace(judged, verdict=with_probabilities(judged.verdict, task, pair))
        scores.add(judged)
        worst.add(judged, pair.sample)
        moved.add(judged.verdict)
        not_finite += judged.verdict.margin == float("-inf")
        on_row(judged.verdict)
    return Analysis(
        scores.score(), scores.flips(), worst.ranked(), moved.summary(), not_finite, scores.part
    )


def with_probabilities(verdict: SampleVerdict, task: Task, pair: SamplePair) -> SampleVerdict:
    """A classification's verdict with the probability that each side gives its own prediction.

    FP32's output says for both whether it holds probabilities: FP16's may not add up to 1.
    """
    (output,) = task.kind.outputs
    sides = pair.reference[output], pair.candidate[output]
    given = are_probabilities(sides[0])
    own = (probabilities(side, given=given) for side in sides)
    reference, candidate = (None if p is None else float(p.max()) for p in own)
    return verdict.model_copy(update={"reference_probability": reference, "probability": candidate})


def rank_key(verdict: SampleVerdict) -> tuple[bool, float, "_Reversed"]:
    """Sorts the worst sample last: got wrong, then by loss of margin, then by id backwards."""
    return verdict.flip == "worsened", verdict.margin_loss, _Reversed(verdict.id)


class Tail:
    """The k worst samples: those that got wrong first, then by loss of margin, then by id."""

    def __init__(self, size: int, kind: Kind[Any, Any]) -> None:
        self._size, self._kind = size, kind
        self._heap: list[tuple[tuple[bool, float, _Reversed], SampleVerdict]] = []

    def add(self, judged: Judged, sample: Sample) -> None:
        """Consider one sample."""
        verdict = judged.verdict
        rank = rank_key(verdict)
        if self._size and (len(self._heap) < self._size or rank > self._heap[0][0]):
            push = heapq.heappush if len(self._heap) < self._size else heapq.heapreplace
            push(self._heap, (rank, _with_preview(judged, sample, self._kind)))

    def ranked(self) -> tuple[SampleVerdict, ...]:
        """The worst first."""
        return tuple(verdict for _, verdict in sorted(self._heap, key=lambda e: e[0], reverse=True))


class Movement:
    """How far all samples moved: 8 bytes a sample is all that is kept."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._counts = np.zeros((len(CONFIDENT_AT), 3), dtype=np.int64)
        self._has_classes = False

    def add(self, verdict: SampleVerdict) -> None:
        """Count one sample."""
        self._losses.append(verdict.margin_loss)
        probability = verdict.reference_probability
        if probability is None:
            return
        self._has_classes = True
        sure = probability >= np.array(CONFIDENT_AT)
        self._counts += sure[:, None] * np.array(
            [1, verdict.flip != "", verdict.flip == "worsened"], dtype=np.int64
        )

    def summary(self) -> TailSummary:
        """Percentiles of the loss of margin, and what became of confident predictions."""
        return TailSummary(
            samples=len(self._losses),
            margin_loss=_percentiles(np.array(self._losses, dtype=np.float64)),
            worst_losses=_worst(np.array(self._losses, dtype=np.float64)),
            confident=tuple(
                ConfidentFlips(
                    probability=probability, samples=int(n), flips=int(flips), worsened=int(bad)
                )
                for probability, (n, flips, bad) in zip(CONFIDENT_AT, self._counts, strict=True)
            )
            if self._has_classes
            else (),
        )


def _percentiles(losses: np.ndarray) -> dict[str, float]:
    if not losses.size:
        return {}
    # Between a number and infinity numpy's line would give no number.
    finite = np.where(np.isfinite(losses), losses, np.finfo(np.float64).max / 4)
    values = np.percentile(finite, PERCENTILES)
    largest = float(losses[np.isfinite(losses)].max(initial=-np.inf))
    return {
        f"{p:g}": float(v) if v <= largest else float("inf")
        for p, v in zip(PERCENTILES, values, strict=True)
    }


def _worst(losses: np.ndarray) -> tuple[float, ...]:
    """The largest losses, as far down as a bound of the 99th percentile may lie, falling.

    That is five standard deviations of the number of losses above the percentile.
    """
    count = losses.size
    kept = math.ceil(0.01 * count + 5 * math.sqrt(0.0099 * count)) + 1
    return tuple(np.sort(losses)[::-1][:kept].tolist())


class BesideFp16:
    """Puts FP16's answer beside that of each candidate that comes after it."""

    def __init__(self) -> None:
        self._answers: dict[str, RivalAnswer] = {}

    def row(
        self, precision: Precision, add: Callable[[str, SampleVerdict], None]
    ) -> Callable[[str, SampleVerdict], None]:
        """What takes in a candidate's verdicts and hands them on: FP16's are kept on the way."""

        def on_row(name: str, verdict: SampleVerdict) -> None:
            if precision is Precision.FP16:
                self.keep(verdict)
            add(name, self.beside(verdict) if precision is Precision.INT8 else verdict)

        return on_row

    def keep(self, verdict: SampleVerdict) -> None:
        """Keep an answer of FP16's."""
        self._answers[verdict.id] = RivalAnswer(
            prediction=verdict.prediction, probability=verdict.probability, margin=verdict.margin
        )

    def beside(self, verdict: SampleVerdict) -> SampleVerdict:
        """The verdict with FP16's answer, if there is one."""
        found = self._answers.get(verdict.id)
        return verdict if found is None else verdict.model_copy(update={"fp16": found})


class _Reversed(str):
    """Orders ids backwards, so that of equals the one with the smaller id ranks higher."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


def _with_preview(judged: Judged, sample: Sample, kind: Kind[Any, Any]) -> SampleVerdict:
    verdict = judged.verdict
    if sample.preview is None:
        return verdict
    png = sample.preview.png
    if png is not None and isinstance(kind, Drawing):
        png = kind.draw(png, sample, *judged.answers.answers)
    text = sample.preview.text
    return verdict.model_copy(
        update={
            "text": text[:_TEXT_CHARACTERS] if text is not None else None,
            "thumbnail_png_base64": base64.b64encode(png).decode() if png else None,
        }
    )
