"""Boxes in pictures: their forms, their overlap, and thinning out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array

Boxes = NDArray[np.float64]
"""float64 (boxes, 4): left, top, right, bottom; right and bottom lie outside, as in COCO."""


def corners_from_columns(values: Array, names: Sequence[str]) -> Boxes:
    """Boxes of any usual form, as corners.

    Args:
        values: (boxes, 4).
        names: what each column is: x1 y1 x2 y2 in any order, x y w h (from the upper left corner)
            or cx cy w h (from the centre).

    Raises:
        ValueError: if the names are none of these forms.
    """
    column = {name: values[:, index].astype(np.float64) for index, name in enumerate(names)}
    match frozenset(names):
        case s if s == {"x1", "y1", "x2", "y2"}:
            return np.stack([column[name] for name in ("x1", "y1", "x2", "y2")], axis=1)
        case s if s == {"x", "y", "w", "h"}:
            left, top = column["x"], column["y"]
        case s if s == {"cx", "cy", "w", "h"}:
            left, top = column["cx"] - column["w"] / 2, column["cy"] - column["h"] / 2
        case _:
            raise ValueError(f"no form of boxes: {', '.join(names)}")
    return np.stack([left, top, left + column["w"], top + column["h"]], axis=1)


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Area of each box, float64 (boxes,), in pixels squared; 0 where it is inside out."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def overlaps(first: Boxes, second: Boxes, crowd: NDArray[np.bool_] | None = None) -> Boxes:
    """Intersection over union, float64 (first, second).

    Args:
        first: boxes found.
        second: boxes to be found.
        crowd: bool (second,): there the area of the first box takes the union's place, since a
            crowd holds many (COCO's rule, pycocotools' `maskUtils.iou`).
    """
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.maximum(np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner, 0)
    common = sides[..., 0] * sides[..., 1]
    own = areas(first)[:, None]
    union = own + areas(second)[None, :] - common
    if crowd is not None:
        union = np.where(crowd[None, :], own, union)
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def thinned_out(
    boxes: Boxes, scores: NDArray[np.float64], classes: NDArray[np.int64], overlap_max: float
) -> NDArray[np.int64]:
    """Non-maximum suppression within each class: the indices kept, the highest score first.

    A box goes if it overlaps one of its class that is kept by more than `overlap_max`. Of equal
    scores the first comes first.

    Args:
        boxes: (boxes, 4).
        scores: (boxes,).
        classes: (boxes,).
        overlap_max: intersection over union.
    """
    kept: list[int] = []
    for label in np.unique(classes):
        left = np.flatnonzero(classes == label)
        left = left[np.argsort(-scores[left], kind="stable")]
        while len(left):
            best, left = left[0], left[1:]
            kept.append(int(best))
            left = left[overlaps(boxes[best][None], boxes[left])[0] <= overlap_max]
    order = np.asarray(sorted(kept), dtype=np.int64)
    return order[np.argsort(-scores[order], kind="stable")]
