"""Segmentation: a class for each pixel."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, weighted_sum
from calib.tasks.drawing import with_difference
from data_loaders.types import Array, Sample

Classes = NDArray[np.int64]
"""int64 (height, width): the class of each pixel."""
_NO_CLASS = -1


class SegmentationSpec(BaseModel):
    """A class for each pixel; scored by the mean intersection over union."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["segmentation"] = "segmentation"
    output: str | None = Field(
        default=None,
        description="Scores by class and pixel, or classes; the model's first output if absent.",
    )
    class_axis: int | None = Field(
        default=0,
        description="Axis of the classes in one sample's output; null if it holds classes.",
    )
    threshold: float | None = Field(
        default=None,
        description="For one channel: a score above it is class 1; 0 of logits, 0.5 of shares.",
    )
    ignore: int = Field(default=255, description="Pixels of this label count for nothing.")


class Segmentation:
    """Mean IoU and Dice from confusion counts in whole numbers.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
        class_names: by class.
    """

    metrics = (
        Metric("miou_pct", "mean IoU"),
        Metric("dice_pct", "mean Dice"),
        Metric("pixel_accuracy_pct", "pixels right"),
    )
    sample_metric = Metric("sample_iou_pct", "mean IoU of the picture")
    reads_all = True

    def __init__(
        self, spec: SegmentationSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._spec, self._class_names = spec, tuple(class_names)
        self.outputs = (spec.output or names[0],)
        self._classes = max(len(class_names), 2)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Classes:
        """See `Kind.answer`: the largest score of each pixel wins; NaN is of no class."""
        array = output_of(outputs, self.outputs[0], sample)
        axis = self._spec.class_axis
        if axis is None:
            found = _two_axes(array, sample)
            whole = np.where(np.isfinite(found), found, _NO_CLASS)
            return self._known(whole.round().astype(np.int64))
        if array.ndim != 3 or not -3 <= axis < 3:
            raise refuse(
                sample,
                "the output has no class scores for each pixel",
                f"shape {array.shape}",
                "three axes; task.class_axis tells that of the classes, null if there is none",
            )
        if array.shape[axis] == 1:
            threshold = 0.0 if self._spec.threshold is None else self._spec.threshold
            scores = np.take(array, 0, axis=axis)
            return np.where(np.isnan(scores), _NO_CLASS, scores > threshold).astype(np.int64)
        broken = np.isnan(array).any(axis=axis)
        return self._known(np.where(broken, _NO_CLASS, array.argmax(axis=axis)).astype(np.int64))

    def _known(self, classes: Classes) -> Classes:
        self._classes = max(self._classes, int(classes.max(initial=0)) + 1)
        return classes

    def target(self, sample: Sample) -> Classes | None:
        """See `Kind.target`."""
        if sample.label is None:
            return None
        if not isinstance(sample.label, np.ndarray):
            raise refuse(
                sample,
                "the label is no mask",
                type(sample.label).__name__,
                "a class for each pixel",
            )
        mask = _two_axes(sample.label, sample).astype(np.int64)
        kept = mask[mask != self._spec.ignore]
        self._classes = max(self._classes, int(kept.max(initial=0)) + 1)
        return mask

    def target_from_answer(self, answer: Classes) -> Classes:
        """FP32's classes; where it has none, nothing is asked."""
        return np.where(answer == _NO_CLASS, self._spec.ignore, answer)

    def compare(self, answer: Classes, target: Classes) -> Comparison:
        """See `Kind.compare`; statistics are (true positives, predicted, present) by class.

        An answer of another size than the mask is taken to its size by the nearest pixel.
        """
        answer = resized(answer, target.shape)
        counted = target != self._spec.ignore
        said, true = answer[counted], target[counted]
        hit = np.bincount(true[said == true], minlength=self._classes)
        predicted = np.bincount(said[said != _NO_CLASS], minlength=self._classes)
        present = np.bincount(true, minlength=self._classes)
        sums = np.stack(_padded(hit, predicted, present)).astype(np.float64)
        score = _mean_of_present(_iou(sums), sums)
        return Comparison(score, None, sums)

    def is_same(self, first: Classes, second: Classes) -> bool:
        """Whether no pixel has another class."""
        return bool(np.array_equal(first, second))

    def gathered(self, statistics: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """See `Gathering`: float64 (pictures, 3, classes)."""
        widest = max((s.shape[1] for s in statistics), default=0)
        return np.stack(
            [np.pad(s, ((0, 0), (0, widest - s.shape[1]))) for s in statistics]
            or [np.zeros((3, 0))]
        )

    def summarise(
        self,
        statistics: Sequence[NDArray[np.float64]] | NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """See `Kind.summarise`; means over the classes that occur or are predicted."""
        sums = self._summed(statistics, weights)
        dice = 200 * sums[0] / np.maximum(sums[1] + sums[2], 1)
        return {
            "miou_pct": _mean_of_present(_iou(sums), sums),
            "dice_pct": _mean_of_present(dice, sums),
            "pixel_accuracy_pct": percent(sums[0].sum(), sums[2].sum()),
        }

    def by_class(
        self,
        statistics: Sequence[NDArray[np.float64]] | NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """IoU of each class that occurs, in %, by name."""
        sums = self._summed(statistics, weights)
        return {
            self._name(index): float(value)
            for index, value in enumerate(_iou(sums))
            if sums[2][index]
        }

    def class_samples(self, statistics: NDArray[np.float64]) -> dict[str, int]:
        """See `HasClasses`: pictures with a pixel of the class."""
        there = (statistics[:, 2] > 0).sum(axis=0)
        return {self._name(int(k)): int(there[k]) for k in np.flatnonzero(there)}

    def _summed(
        self,
        statistics: Sequence[NDArray[np.float64]] | NDArray[np.float64],
        weights: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        table = statistics if isinstance(statistics, np.ndarray) else self.gathered(statistics)
        return weighted_sum(table, weights)

    def words(self, answer: Classes) -> str:
        """The classes that take most of the picture."""
        labels, counts = np.unique(answer[answer != _NO_CLASS], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:4]
        shares = [
            f"{self._name(int(labels[i]))} {100 * counts[i] / answer.size:.3g} %" for i in order
        ]
        return ", ".join(shares) or "nothing"

    def target_words(self, target: Classes) -> str:
        """The same of a mask."""
        return self.words(np.where(target == self._spec.ignore, _NO_CLASS, target))

    def draw(self, png: bytes, sample: Sample, reference: Classes, own: Classes) -> bytes:  # noqa: ARG002
        """The pixels whose class is not FP32's."""
        return with_difference(png, reference != resized(own, reference.shape))

    def _name(self, label: int) -> str:
        return self._class_names[label] if label < len(self._class_names) else str(label)


def resized(classes: Classes, shape: tuple[int, ...]) -> Classes:
    """Classes at another size, each pixel from the nearest: no class is made up between two."""
    if classes.shape == shape:
        return classes
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old // new, old - 1).astype(np.int64)
        for new, old in zip(shape, classes.shape, strict=True)
    )
    return np.asarray(classes[rows][:, columns])


def _two_axes(array: Array, sample: Sample) -> Array:
    found = array
    while found.ndim > 2 and 1 in found.shape:
        found = found.squeeze(found.shape.index(1))
    if found.ndim != 2:
        raise refuse(sample, "is no class for each pixel", f"shape {array.shape}", "two axes")
    return found


def _padded(*counts: Array) -> list[Array]:
    widest = max(len(c) for c in counts)
    return [np.pad(c, (0, widest - len(c))) for c in counts]


def _iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union by class, in %, of (true positives, predicted, present)."""
    return np.asarray(100 * sums[0] / np.maximum(sums[1] + sums[2] - sums[0], 1))


def _mean_of_present(values: NDArray[np.float64], sums: NDArray[np.float64]) -> float:
    """The mean over classes that are there or were said to be."""
    if not sums.size:
        return float("nan")
    there = (sums[1] + sums[2]) > 0
    return float(values[there].mean()) if there.any() else float("nan")
