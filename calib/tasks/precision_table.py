"""Average precision of one class over many pictures, as often as a bootstrap asks for it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calib.tasks.average_precision import IOU_THRESHOLDS, RECALLS, Matched

Floats = NDArray[np.float64]
_ELEMENTS = 1_000_000
"""Weighed at once: 8 MB an array."""
WHOLE = "all"
"""The range of areas that holds all."""


class PrecisionTable:
    """One class in all pictures: sorted once, weighed many times.

    Precision falls where a detection is wrong, so its largest value from a recall on is at one that
    is right: only there is it computed, which is a small part of all detections.

    Args:
        parts: what pictures add to the class.
        pictures: int64 (parts,), the place of each part's picture among all.
    """

    def __init__(self, parts: Sequence[Matched], pictures: NDArray[np.int64]) -> None:
        self.pictures = pictures
        self._objects = np.array([part.objects for part in parts], dtype=np.float64)
        scores = np.concatenate([part.scores for part in parts])
        order = np.argsort(-scores, kind="mergesort")
        picture = np.repeat(pictures, [len(part.scores) for part in parts])[order]
        hits = np.concatenate([part.hits for part in parts], axis=1)[:, order]
        ignored = np.concatenate([part.ignored for part in parts], axis=1)[:, order]
        # What counts at no threshold, as objects of another size do not, is not there.
        kept = ~ignored.all(axis=0)
        self._picture, hits, ignored = picture[kept], hits[:, kept], ignored[:, kept]
        self._ignored = ignored if ignored.any() else None
        right = hits & ~ignored
        width = int(right.sum(axis=1).max(initial=0))
        self._is_hit = np.arange(width)[None, :] < right.sum(axis=1)[:, None]
        self._places = np.zeros((len(IOU_THRESHOLDS), width), dtype=np.int64)
        self._places[self._is_hit] = np.nonzero(right)[1]

    @property
    def has_objects(self) -> NDArray[np.bool_]:
        """Whether there is an object to be found, bool (parts,)."""
        return np.asarray(self._objects > 0)

    def precision(self, weights: Floats) -> Floats:
        """Average precision at each of IOU_THRESHOLDS; NaN where nothing is to be found.

        A picture that counts twice is as good as two copies of it, but that detections of one
        picture and class whose scores are equal stay in their order.

        Args:
            weights: how often each picture counts, float64 (resamples, all pictures).

        Returns:
            float64 (resamples, thresholds), the mean over 101 recalls of the interpolated
            precision.
        """
        size = max(self._places.size, len(self._picture) * (1 + 10 * (self._ignored is not None)))
        rows = max(1, _ELEMENTS // max(size, 1))
        parts = [self._weighed(weights[k : k + rows]) for k in range(0, len(weights), rows)]
        return np.concatenate(parts)

    def _weighed(self, weights: Floats) -> Floats:
        objects = weights[:, self.pictures] @ self._objects
        count = weights[:, self._picture]
        right = np.cumsum(count[:, self._places] * self._is_hit, axis=2)
        whole = np.cumsum(count, axis=1)[:, self._places]
        if self._ignored is not None:
            left_out = np.cumsum(count[:, None, :] * self._ignored, axis=2)
            whole = whole - np.take_along_axis(left_out, self._places[None], axis=2)
        share = right / np.maximum(whole, np.spacing(1)) * self._is_hit
        best = np.maximum.accumulate(share[..., ::-1], axis=2)[..., ::-1]
        # As many of the recalls are reached first at this detection.
        there = np.where(objects > 0, objects, np.nan)
        reached = np.searchsorted(RECALLS, right / there[:, None, None], side="right")
        first = np.diff(reached, axis=2, prepend=0)
        return np.where(objects[:, None] > 0, (first * best).sum(axis=2) / len(RECALLS), np.nan)


class Gathered:
    """What all pictures add to the mean average precision, in a form that a bootstrap weighs.

    Args:
        parts: of each picture, by range of areas, by class.
        sums: of each picture, added up beside.
    """

    def __init__(
        self, parts: Sequence[Mapping[str, Mapping[int, Matched]]], sums: Sequence[Floats]
    ) -> None:
        self.sums = np.stack(sums)
        self._tables = {area: _tables([part[area] for part in parts]) for area in parts[0]}

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.sums)

    def precisions(self, area: str, weights: Floats) -> dict[int, Floats]:
        """Average precision at each threshold, float64 (resamples, thresholds), by class.

        It is NaN in resamples where the class has no objects of that size.

        Args:
            area: the range of the objects' areas.
            weights: how often each picture counts, float64 (resamples, pictures).
        """
        return {label: table.precision(weights) for label, table in self._tables[area].items()}

    def samples(self, area: str) -> dict[int, int]:
        """How many pictures have an object of that size, by class."""
        return {label: int(table.has_objects.sum()) for label, table in self._tables[area].items()}

    def samples_with(self, area: str) -> int:
        """How many pictures have an object of that size."""
        there = np.zeros(len(self), dtype=np.bool_)
        for table in self._tables[area].values():
            there[table.pictures[table.has_objects]] = True
        return int(there.sum())


def _tables(parts: Sequence[Mapping[int, Matched]]) -> dict[int, PrecisionTable]:
    by_class: dict[int, list[int]] = {}
    for picture, part in enumerate(parts):
        for label in part:
            by_class.setdefault(label, []).append(picture)
    return {
        label: PrecisionTable([parts[k][label] for k in pictures], np.array(pictures))
        for label, pictures in sorted(by_class.items())
    }
