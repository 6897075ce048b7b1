"""Average precision as COCO counts it, from parts that a bootstrap can weigh anew."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.tasks.boxes import Boxes, overlaps

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
DETECTIONS_MAX = 100
"""Of one class in one picture; COCO's own."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The boxes to be found in one picture.

    Attributes:
        boxes: (objects, 4).
        classes: int64 (objects,).
        crowd: bool (objects,): finding it is neither right nor wrong.
        areas: float64 (objects,): in pixels squared, of the mask where there is one.
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """The boxes found in one picture.

    Attributes:
        boxes: (detections, 4).
        scores: float64 (detections,).
        classes: int64 (detections,).
    """

    boxes: Boxes
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Matched:
    """What one picture adds to one class.

    Attributes:
        scores: float64 (detections,), the highest first.
        hits: bool (thresholds, detections): it found an object at that overlap.
        ignored: bool (thresholds, detections): neither right nor wrong.
        objects: how many there are to be found, crowds apart.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: int


def match(
    found: Found, truth: Truth, area: tuple[float, float] = (0.0, np.inf)
) -> dict[int, Matched]:
    """Pair what was found with what is there, class by class.

    The detections choose in order of their scores, each the object that it overlaps most among
    those left; a crowd, or an object outside the range of areas, only if no other is left to it,
    and then neither counts (T.-Y. Lin et al., Microsoft COCO, 2014; the rules are those of the
    reference evaluator, pycocotools' `evaluateImg`).

    Args:
        found: in one picture.
        truth: the same picture's.
        area: least and most area of the objects that count, in pixels squared.

    Returns:
        by class, those of the detections and of the objects.
    """
    labels = np.union1d(found.classes, truth.classes)
    return {int(label): _match_class(found, truth, int(label), area) for label in labels}


def _match_class(found: Found, truth: Truth, label: int, area: tuple[float, float]) -> Matched:
    mine = np.flatnonzero(found.classes == label)
    mine = mine[np.argsort(-found.scores[mine], kind="mergesort")][:DETECTIONS_MAX]
    theirs = np.flatnonzero(truth.classes == label)
    outside = (truth.areas[theirs] < area[0]) | (truth.areas[theirs] > area[1])
    passed_over = truth.crowd[theirs] | outside
    theirs = theirs[np.argsort(passed_over, kind="mergesort")]
    passed_over = np.sort(passed_over, kind="mergesort")
    crowd = truth.crowd[theirs]
    overlap = overlaps(found.boxes[mine], truth.boxes[theirs], crowd)
    # Most classes of a picture have nothing to be found, or nothing near it.
    if overlap.max(initial=0.0) < IOU_THRESHOLDS[0]:
        chosen = np.full((len(IOU_THRESHOLDS), len(mine)), -1, dtype=np.int64)
    else:
        chosen = np.stack([_choose(overlap, passed_over, crowd, t) for t in IOU_THRESHOLDS])
    hit = chosen >= 0
    ignored = np.zeros_like(hit)
    if len(theirs):
        ignored = hit & passed_over[np.maximum(chosen, 0)]
    sizes = np.prod(found.boxes[mine][:, 2:] - found.boxes[mine][:, :2], axis=1)
    ignored |= ~hit & ((sizes < area[0]) | (sizes > area[1]))[None, :]
    return Matched(found.scores[mine], hit, ignored, int((~passed_over).sum()))


def _choose(
    overlap: Boxes, passed_over: NDArray[np.bool_], crowd: NDArray[np.bool_], threshold: float
) -> NDArray[np.int64]:
    """The object that each detection takes, -1 for none; int64 (detections,)."""
    taken = np.zeros(len(passed_over), dtype=bool)
    chosen = np.full(len(overlap), -1, dtype=np.int64)
    least = min(threshold, 1 - 1e-10)
    for index, row in enumerate(overlap):
        free = (~taken | crowd) & (row >= least)
        for group in (free & ~passed_over, free & passed_over):
            if group.any():
                # Of equal overlaps the last, as the reference evaluator goes on with >=.
                best = np.flatnonzero(group & (row == row[group].max()))[-1]
                chosen[index], taken[best] = best, True
                break
    return chosen
