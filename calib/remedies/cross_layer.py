"""Cross-layer equalization: channels between two layers get like ranges, the network unchanged.

A channel may be divided by a positive factor in the layer that makes it and multiplied by the same
in the layer that reads it, if what lies between is positively homogeneous (nothing, ReLU,
LeakyReLU, PReLU). It may be shifted only if nothing lies between.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import Floats

_ALIGNMENT_SCALES = (1e-2, 1e2)


class DepthwiseScales(NamedTuple):
    """Divide the maker's channels, and multiply the reader's, by each.

    Attributes:
        first: float64 (C,), between the first layer and the middle one.
        last: float64 (C,), between the middle layer and the last one.
    """

    first: NDArray[np.float64]
    last: NDArray[np.float64]


class ChannelAlignment(NamedTuple):
    """A channel c becomes (c - shift) / scale.

    First layer: W1 / scale and (b1 - shift) / scale. Second: W2 * scale and b2 + W2 shift, where
    this W2 is the unscaled one.

    Attributes:
        shift: float64 (C,), in the channel's unit.
        scale: float64 (C,), in [0.01, 100].
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]


def cross_layer_scales(first: Floats, second: Floats) -> NDArray[np.float64]:
    """What to divide the first layer's channels by, and multiply the second's.

    s = sqrt(r1 r2) / r2, after which both ranges are sqrt(r1 r2): M. Nagel et al., "Data-Free
    Quantization" (arXiv 1906.04721), section 4.1. W1 and b1 are divided by s, W2 is multiplied. A
    channel with a range of zero on either side is left alone, its factor 1.

    Args:
        first: float (C,), >= 0, the largest |w| that makes each channel.
        second: float (C,), >= 0, the largest |w| that reads each channel.

    Returns:
        float64 (C,), > 0.

    Raises:
        ValueError: if shapes disagree, or a range is negative or not finite.
    """
    first, second = _ranges(first, second)
    alive = (first > 0) & (second > 0)
    # Roots apart: the product of two small ranges may underflow.
    return np.sqrt(np.where(alive, first, 1)) / np.sqrt(np.where(alive, second, 1))


def depthwise_scales(first: Floats, middle: Floats, last: Floats) -> DepthwiseScales:
    """The same for a layer, a depthwise one, and a third; all three ranges become the cube root.

    With m = ∛(r1 r2 r3): r1 / m between first and middle, m / r3 between middle and last, which
    follows from asking for equal ranges as arXiv 1906.04721 does for two layers. A channel with a
    range of zero in any of them is left alone.

    Args:
        first: float (C,), >= 0, the largest |w| that makes each channel.
        middle: float (C,), >= 0, the largest |w| of each channel's own filter.
        last: float (C,), >= 0, the largest |w| that reads each channel.

    Raises:
        ValueError: if shapes disagree, or a range is negative or not finite.
    """
    first, middle, last = _ranges(first, middle, last)
    alive = (first > 0) & (middle > 0) & (last > 0)
    first, middle, last = (np.where(alive, r, 1) for r in (first, middle, last))
    mean = np.cbrt(first) * np.cbrt(middle) * np.cbrt(last)
    return DepthwiseScales(first / mean, mean / last)


def channel_alignment(low: Floats, high: Floats) -> ChannelAlignment:
    """What centres each channel on zero and gives it the median channel's range.

    As in NNCF's ChannelAlignment: shift (high + low) / 2; scale (high - low) over its median,
    clipped to [0.01, 100]. A channel without a range keeps its scale, and has no say in the median.

    Args:
        low: float (C,), each channel's low end: a minimum, or a low quantile.
        high: float (C,), its high end, >= low.

    Raises:
        ValueError: if shapes disagree, or an end is not finite, or high lies below low.
    """
    if low.shape != high.shape or low.ndim != 1:
        raise ValueError(f"ends of channels must be (C,) alike, got {low.shape} and {high.shape}")
    low, high = low.astype(np.float64), high.astype(np.float64)
    if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
        raise ValueError("ends of channels must be finite, and high not below low")
    width = high - low
    alive = width > 0
    median = np.median(width[alive]) if alive.any() else 1.0
    scale = np.where(alive, np.clip(width / median, *_ALIGNMENT_SCALES), 1.0)
    return ChannelAlignment((high + low) / 2, scale)


def _ranges(*ranges: Floats) -> tuple[NDArray[np.float64], ...]:
    shapes = {r.shape for r in ranges}
    if len(shapes) != 1 or ranges[0].ndim != 1:
        raise ValueError(f"ranges must be (C,) alike, got {', '.join(map(str, shapes))}")
    if not all((np.isfinite(r) & (r >= 0)).all() for r in ranges):
        raise ValueError("ranges must be finite and not negative")
    return tuple(r.astype(np.float64) for r in ranges)
