"""What can go wrong with a model, planted in the outputs of some samples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from benchmarks.task_checks.cases import Outputs
from data_loaders.types import Sample

_EROSION = 3
_THRESHOLD = 0.3
_TURNED = 1


@dataclass(frozen=True, slots=True)
class Damage:
    """One kind of damage.

    Attributes:
        name: for the table.
        case: which it is planted in.
        planted: a sample's outputs, damaged.
        fits: whether a judged sample would suffer; only those that FP32 has right are asked.
        where: the sample whose output is damaged so that a judged one suffers, by id.
        gone: the classes that vanish when every sample is damaged.
    """

    name: str
    case: str
    planted: Callable[[Outputs], Outputs]
    fits: Callable[[Sample], bool] = lambda _: True
    where: Callable[[str], str] = lambda name: name
    gone: tuple[str, ...] = ()


def _each(change: Callable[..., np.ndarray]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {name: change(array.copy()) for name, array in outputs.items()}


def _scores_zeroed(grid: np.ndarray) -> np.ndarray:
    grid[4] = 0
    return grid


def _shifted(grid: np.ndarray) -> np.ndarray:
    """By half of each box's own width: of two such boxes a third overlaps."""
    grid[0] += np.exp(grid[2]) / 2
    return grid


def _eroded(scores: np.ndarray) -> np.ndarray:
    kept = binary_erosion(scores[0] > _THRESHOLD, iterations=_EROSION)
    return np.where(kept, scores, 0).astype(scores.dtype)


def _never_turned(scores: np.ndarray) -> np.ndarray:
    scores[_TURNED] = scores.min() - 1
    return scores


DAMAGE = (
    Damage("scores zeroed", "character_detector", _each(_scores_zeroed), gone=("character",)),
    Damage("boxes shifted by half their width", "character_detector", _each(_shifted)),
    Damage("text never found", "text_segmenter", _each(np.zeros_like), gone=("text",)),
    Damage("mask eroded by 3 pixels", "text_segmenter", _each(_eroded)),
    Damage(
        "decoder off by one",
        "text_recognizer",
        _each(lambda scores: np.roll(scores, 1, axis=-1)),
    ),
    Damage("half of the time steps lost", "text_recognizer", _each(lambda scores: scores[::2])),
    Damage("query vectors reversed", "retriever", _each(lambda vector: vector[::-1])),
    Damage(
        "documents emptied",
        "retriever",
        _each(np.zeros_like),
        where=lambda name: name.replace("query", "document"),
    ),
    Damage(
        "one half of a pair reversed",
        "pairs of texts",
        _each(lambda vector: vector[::-1]),
        fits=lambda sample: sample.label.likeness == 2,  # type: ignore[union-attr]
    ),
    Damage(
        "one class never said",
        "line direction",
        _each(_never_turned),
        fits=lambda sample: sample.label == _TURNED,
        gone=("turned",),
    ),
    Damage(
        "one label never given",
        "line direction, as labels",
        _each(_never_turned),
        fits=lambda sample: bool(sample.label[_TURNED]),  # type: ignore[index]
        gone=("turned",),
    ),
)
