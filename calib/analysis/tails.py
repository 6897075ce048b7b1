"""The samples that a candidate gets most wrong."""

import base64
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from calib.analysis.accuracy import Judged, SamplePair, ScoreAccumulator, judge
from calib.results import FlipSummary, SampleVerdict, TaskKind, TaskScore
from data_loaders.types import Sample

_TEXT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one candidate's answers came to."""

    score: TaskScore
    flips: FlipSummary
    tail: tuple[SampleVerdict, ...]
    not_finite: int


def analyse(
    kind: TaskKind,
    pairs: Iterable[SamplePair],
    class_names: tuple[str, ...] | None,
    tail: int,
    on_row: Callable[[SampleVerdict], None],
) -> Analysis:
    """Judge every sample once; the order of the samples does not change the result.

    Args:
        kind: what the outputs mean.
        pairs: FP32 and candidate, a sample at a time.
        class_names: in the order of the outputs; indices are shown where there is none.
        tail: how many of the worst samples to keep.
        on_row: receives each verdict, without text or thumbnail.

    Raises:
        DataError: see `judge`.
    """
    scores, worst, not_finite = ScoreAccumulator(kind), Tail(tail), 0
    for pair in pairs:
        judged = judge(kind, pair, class_names)
        scores.add(judged)
        worst.add(judged, pair.sample)
        not_finite += judged.verdict.margin == float("-inf")
        on_row(judged.verdict)
    return Analysis(scores.score(), scores.flips(), worst.ranked(), not_finite)


class Tail:
    """The k worst samples: those that got wrong first, then by loss of margin, then by id."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[bool, float, _Reversed], SampleVerdict]] = []

    def add(self, judged: Judged, sample: Sample) -> None:
        """Consider one sample."""
        verdict = judged.verdict
        rank = (verdict.flip == "worsened", verdict.margin_loss, _Reversed(verdict.id))
        if self._size and (len(self._heap) < self._size or rank > self._heap[0][0]):
            push = heapq.heappush if len(self._heap) < self._size else heapq.heapreplace
            push(self._heap, (rank, _with_preview(verdict, sample)))

    def ranked(self) -> tuple[SampleVerdict, ...]:
        """The worst first."""
        return tuple(verdict for _, verdict in sorted(self._heap, key=lambda e: e[0], reverse=True))


class _Reversed(str):
    """Orders ids backwards, so that of equals the one with the smaller id ranks higher."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


def _with_preview(verdict: SampleVerdict, sample: Sample) -> SampleVerdict:
    if sample.preview is None:
        return verdict
    png = sample.preview.png
    text = sample.preview.text
    return verdict.model_copy(
        update={
            "text": text[:_TEXT_CHARACTERS] if text is not None else None,
            "thumbnail_png_base64": base64.b64encode(png).decode() if png else None,
        }
    )
