"""A factor and a shift for each channel, followed through a change of layout."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Wide = NDArray[np.float64]
_ELEMENTS_MAX = 1 << 22


@dataclass(frozen=True, slots=True)
class Affine:
    """x·gain + offset; both broadcast to the tensor, and have its rank."""

    gain: Wide
    offset: Wide

    @property
    def shifts(self) -> bool:
        """Whether the offset is more than nothing."""
        return bool(self.offset.any())


def narrowed(array: Wide) -> Wide:
    """With one element along every axis that all are equal along."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis=axis)
        if (array == first).all():
            array = first
    return array


def _transposed(node: ir.Node, value: ir.Value, affine: Affine) -> Affine | None:
    rank = len(value.shape or ())
    order = node.attributes.get_ints("perm", list(range(rank))[::-1])
    back = np.argsort(np.array(order))
    return Affine(affine.gain.transpose(back), affine.offset.transpose(back))


def _reshaped(node: ir.Node, value: ir.Value, affine: Affine) -> Affine | None:
    """The same elements under the shape before: the last axes must cover what differs."""
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    after = list(value.shape or ())
    if before is None:
        return None
    parts = (affine.gain, affine.offset)
    differing = [at for at in range(len(after)) if any(part.shape[at] > 1 for part in parts)]
    # As many of the last axes as it takes, until both sides cut the elements alike.
    for start in range(min(differing, default=len(after)), -1, -1):
        sizes = [size for size in after[start:] if isinstance(size, int)]
        count = math.prod(sizes)
        if len(sizes) < len(after) - start or count > _ELEMENTS_MAX:
            return None
        cut = _cut(before, count)
        if cut is not None:
            shape = (1,) * (len(before) - len(cut)) + cut
            moved = (np.broadcast_to(p[(0,) * start], sizes).reshape(shape) for p in parts)
            return Affine(*(narrowed(part) for part in moved))
    return None


def _cut(shape: ir.Shape, count: int) -> tuple[int, ...] | None:
    """The last axes that together have so many elements."""
    sizes: list[int] = []
    left = count
    for size in reversed(list(shape)):
        if left == 1:
            break
        if not isinstance(size, int) or left % size:
            return None
        left //= size
        sizes.insert(0, size)
    return tuple(sizes) if left == 1 else None


LAYOUTS: Mapping[str, Callable[[ir.Node, ir.Value, Affine], Affine | None]] = {
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Flatten": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
}
