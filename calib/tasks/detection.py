"""Detection: boxes, each with a class and a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.tasks.average_precision import IOU_THRESHOLDS, Found, Truth, match
from calib.tasks.base import Comparison, Metric, refuse
from calib.tasks.boxes import overlaps
from calib.tasks.decoding import decode
from calib.tasks.detection_spec import DetectionSpec
from calib.tasks.drawing import with_boxes
from calib.tasks.precision_table import WHOLE, Gathered
from data_loaders.targets import Frame, ObjectsTarget
from data_loaders.types import Array, Sample

AREA_RANGES = {
    WHOLE: (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's, in pixels squared of the picture."""
_IOU_SEEN = 0.5


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector says of one picture.

    Attributes:
        found: in the picture's own pixels.
        seen: bool (detections,): those that a user of the model would see.
    """

    found: Found
    seen: NDArray[np.bool_]


class Detection:
    """COCO's mean average precision; a sample's score is the F1 of the boxes that a user sees.

    Args:
        spec: how outputs are read.
        names: of the model's outputs.
        class_names: by class.
    """

    metrics = (
        Metric("map_pct", "mAP"),
        Metric("ap50_pct", "AP50"),
        Metric("ap75_pct", "AP75"),
        Metric("map_small_pct", "mAP of small objects"),
        Metric("map_medium_pct", "mAP of medium objects"),
        Metric("map_large_pct", "mAP of large objects"),
        Metric("boxes_lost_pct", "objects not found", higher_is_better=False),
        Metric("boxes_invented_per_picture", "boxes invented", "a picture", higher_is_better=False),
        Metric("matched_iou_pct", "overlap of the boxes that match"),
        Metric("matched_score_pct", "score of the boxes that match"),
    )
    sample_metric = Metric("f1_pct", "F1 of the boxes seen")
    slices_by_score = True

    def __init__(
        self, spec: DetectionSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._spec, self._class_names = spec, tuple(class_names)
        told = (spec.output, spec.scores, spec.labels, spec.count, *spec.grids)
        self.outputs = tuple(names) if spec.entry else tuple(n for n in told if n) or (names[0],)
        if not spec.entry and not spec.grids and spec.output is None:
            self.outputs = tuple(dict.fromkeys((names[0], *self.outputs)))

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Detections:
        """See `Kind.answer`."""
        size = _input_size(sample)
        found = decode(self._spec, outputs, sample, size)
        frame = sample.frame or Frame(*size)
        found = Found(frame.undo(found.boxes), found.scores, found.classes)
        return Detections(found, found.scores >= self._spec.shown_score_min)

    def target(self, sample: Sample) -> Truth | None:
        """See `Kind.target`."""
        label = sample.label
        if label is None:
            return None
        if not isinstance(label, ObjectsTarget):
            raise refuse(sample, "the label holds no boxes", type(label).__name__, "boxes")
        return Truth(label.boxes, label.classes, label.crowd, label.areas)

    def target_from_answer(self, answer: Detections) -> Truth:
        """The boxes that a user sees."""
        found, seen = answer.found, answer.seen
        boxes = found.boxes[seen]
        sides = boxes[:, 2:] - boxes[:, :2]
        return Truth(
            boxes, found.classes[seen], np.zeros(len(boxes), dtype=bool), np.prod(sides, axis=1)
        )

    def compare(self, answer: Detections, target: Truth) -> Comparison:
        """See `Kind.compare`; right means that all boxes seen match, and no object lacks."""
        parts = {name: match(answer.found, target, area) for name, area in AREA_RANGES.items()}
        pairs = matched_pairs(answer, target)
        objects = int((~target.crowd).sum())
        seen = int(answer.seen.sum())
        lost, invented = objects - len(pairs), seen - len(pairs)
        invented -= _inside_crowds(answer, target, pairs)
        whole = 2 * len(pairs) + lost + invented
        sums = np.array(
            [
                objects,
                lost,
                invented,
                len(pairs),
                sum(overlap for _, _, overlap in pairs),
                sum(float(answer.found.scores[index]) for index, _, _ in pairs),
                1.0,
            ]
        )
        score = 100.0 * (2 * len(pairs) / whole if whole else 1.0)
        return Comparison(score, lost == 0 and invented == 0, (parts, sums))

    def is_same(self, first: Detections, second: Detections) -> bool:
        """Whether each box seen in one has its like in the other."""
        target = self.target_from_answer(first)
        pairs = matched_pairs(second, target)
        return len(pairs) == len(target.boxes) == int(second.seen.sum())

    def gathered(self, statistics: Sequence[Any]) -> Gathered:
        """See `Gathering`."""
        return Gathered([parts for parts, _ in statistics], [sums for _, sums in statistics])

    def summarise(
        self,
        statistics: Sequence[Any] | Gathered,
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """See `Kind.summarise`; the mean over classes that have objects, of that size."""
        known = statistics if isinstance(statistics, Gathered) else self.gathered(statistics)
        often = np.ones(len(known)) if weights is None else weights
        found, _ = self.weighed(known, often[None])
        return {name: float(values[0]) for name, values in found.items()}

    def weighed(
        self, statistics: Gathered, weights: NDArray[np.float64]
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """See `Weighing`: the metrics, and average precision by class, in %."""
        by_class = statistics.precisions(WHOLE, weights)
        whole = 100 * _mean_precision(by_class, len(weights))
        sums = weights @ statistics.sums
        objects, lost, invented, pairs, overlap, score, pictures = sums.T
        metrics = {
            "map_pct": whole.mean(axis=1),
            "ap50_pct": whole[:, 0],
            "ap75_pct": whole[:, 5],
            **{
                f"map_{name}_pct": 100
                * _mean_precision(statistics.precisions(name, weights), len(weights)).mean(axis=1)
                for name in ("small", "medium", "large")
            },
            "boxes_lost_pct": 100 * _ratio(lost, objects),
            "boxes_invented_per_picture": _ratio(invented, pictures),
            "matched_iou_pct": 100 * _ratio(overlap, pairs),
            "matched_score_pct": 100 * _ratio(score, pairs),
        }
        named = {self._name(k): 100 * found.mean(axis=1) for k, found in by_class.items()}
        return metrics, named

    def rests_on(self, statistics: Gathered) -> dict[str, int]:
        """See `Gathering`: pictures with an object of that size."""
        return {
            f"map_{name}_pct": statistics.samples_with(name)
            for name in ("small", "medium", "large")
        }

    def by_class(
        self,
        statistics: Sequence[Any] | Gathered,
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """Average precision of each class that has objects, in %, by name."""
        known = statistics if isinstance(statistics, Gathered) else self.gathered(statistics)
        often = np.ones(len(known)) if weights is None else weights
        found = known.precisions(WHOLE, often[None])
        return {
            self._name(label): float(100 * precision.mean())
            for label, precision in found.items()
            if not np.isnan(precision).any()
        }

    def class_samples(self, statistics: Gathered) -> dict[str, int]:
        """See `Gathering`: pictures with an object of the class."""
        return {self._name(k): n for k, n in statistics.samples(WHOLE).items() if n}

    def words(self, answer: Detections) -> str:
        """How many boxes of which class a user sees."""
        return self._count_words(answer.found.classes[answer.seen])

    def target_words(self, target: Truth) -> str:
        """How many objects of which class there are."""
        return self._count_words(target.classes[~target.crowd])

    def draw(self, png: bytes, sample: Sample, reference: Detections, own: Detections) -> bytes:
        """The boxes that a user would see: FP32's whole, the candidate's dashed."""
        size = _input_size(sample)
        boxes = (answer.found.boxes[answer.seen] for answer in (reference, own))
        return with_boxes(png, sample.frame or Frame(*size), size, *boxes)

    def _count_words(self, classes: NDArray[np.int64]) -> str:
        labels, counts = np.unique(classes, return_counts=True)
        found = [f"{n} {self._name(int(k))}" for k, n in zip(labels, counts, strict=True)]
        return ", ".join(found) or "nothing"

    def _name(self, label: int) -> str:
        return self._class_names[label] if 0 <= label < len(self._class_names) else str(label)


def matched_pairs(answer: Detections, target: Truth) -> list[tuple[int, int, float]]:
    """Detections seen and the objects that they match: (detection, object, overlap).

    The highest score chooses first; the class must be the same, the overlap at least 0.5.
    """
    overlap = overlaps(answer.found.boxes, target.boxes)
    free = ~target.crowd
    pairs = []
    for index in np.flatnonzero(answer.seen):
        fits = free & (target.classes == answer.found.classes[index])
        fits &= overlap[index] >= _IOU_SEEN
        if fits.any():
            best = int(np.where(fits, overlap[index], -1).argmax())
            free[best] = False
            pairs.append((int(index), best, float(overlap[index, best])))
    return pairs


def _inside_crowds(answer: Detections, target: Truth, pairs: list[tuple[int, int, float]]) -> int:
    """Boxes seen that match no object, but lie in a crowd of their class: none was invented."""
    if not target.crowd.any():
        return 0
    overlap = overlaps(answer.found.boxes, target.boxes, target.crowd)
    same = answer.found.classes[:, None] == target.classes[None, :]
    inside = ((overlap >= _IOU_SEEN) & same & target.crowd[None, :]).any(axis=1)
    paired = {index for index, _, _ in pairs}
    return sum(bool(inside[i]) for i in np.flatnonzero(answer.seen) if int(i) not in paired)


def _mean_precision(
    by_class: Mapping[int, NDArray[np.float64]], resamples: int
) -> NDArray[np.float64]:
    """The mean over classes at each threshold, (resamples, thresholds); NaN of nothing to find."""
    if not by_class:
        return np.full((resamples, len(IOU_THRESHOLDS)), np.nan)
    table = np.stack(list(by_class.values()))
    there = ~np.isnan(table)
    return _ratio(np.where(there, table, 0.0).sum(axis=0), there.sum(axis=0))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Quotients; NaN where the whole is 0."""
    found: NDArray[np.float64] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _input_size(sample: Sample) -> tuple[int, int]:
    """Height and width of the picture that the model was given."""
    for array in sample.inputs.values():
        if array.ndim == 3:
            channels_first = array.shape[0] <= 4 < array.shape[2]
            return array.shape[1:3] if channels_first else array.shape[:2]
    raise refuse(sample, "has no picture among its inputs", ", ".join(sample.inputs), "three axes")
