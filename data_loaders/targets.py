"""What a model should have found, where that is more than a class or a number."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """How a picture lies in a model's input: input = picture · scale + offset, in pixels.

    Attributes:
        height: of the picture, in pixels.
        width: of the picture.
        scale_x: input pixels a picture's pixel, across.
        scale_y: down.
        left: offset of the picture's left edge in the input.
        top: offset of its upper edge.
    """

    height: int
    width: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def undo(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes of the input, (boxes, 4) as corners, in the picture's pixels and within it."""
        moved = boxes - np.array([self.left, self.top] * 2)
        moved = moved / np.array([self.scale_x, self.scale_y] * 2)
        return np.asarray(np.clip(moved, 0, [self.width, self.height] * 2))


@dataclass(frozen=True, slots=True)
class ObjectsTarget:
    """The objects in one picture.

    Attributes:
        boxes: float64 (objects, 4): left, top, right, bottom in the picture's pixels.
        classes: int64 (objects,).
        crowd: bool (objects,): a box around many, which finding is neither right nor wrong.
        areas: float64 (objects,), in pixels squared: of the mask where there is one.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AnswersTarget:
    """Where the answer to a question lies in its context.

    Attributes:
        context: the text that holds the answer.
        answers: the accepted ones; none if there is no answer.
        offsets: int64 (tokens, 2): the characters of the context that each token of the input
            stands for; -1 where it stands for none.
    """

    context: str
    answers: tuple[str, ...]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairTarget:
    """One half of a pair whose likeness people judged.

    Attributes:
        pair: names the pair; both halves have it.
        likeness: as judged, in any unit.
    """

    pair: str
    likeness: float


@dataclass(frozen=True, slots=True)
class RelevanceTarget:
    """A query's relevant documents, or a document.

    Attributes:
        key: the document's own name; None for a query.
        grades: how relevant each document is to this query, by name; 0 for those not named.
    """

    key: str | None = None
    grades: Mapping[str, int] = field(default_factory=dict)
