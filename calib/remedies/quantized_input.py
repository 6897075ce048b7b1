"""What a layer reads once its input is moved and rounded, and the weight that takes it back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import INT8_MAX


@dataclass(frozen=True, slots=True)
class Reader:
    """A node that reads the activation.

    Attributes:
        weight: float64 (groups, outputs a group, columns a group).
        rows: float32 (groups, rows, columns a group): what it reads.
        taps: columns of an input channel.
        limit: the largest code of its weight.
    """

    weight: NDArray[np.float64]
    rows: NDArray[np.float32]
    taps: int = 1
    limit: int = INT8_MAX

    def by_column(self, by_channel: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values of channels as float32 (groups, 1, columns a group)."""
        repeated = np.repeat(by_channel, self.taps).astype(np.float32)
        return repeated.reshape(len(self.weight), 1, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Equalized:
    """A choice for one activation, and what it gives.

    Attributes:
        gain: float64 (channels,) > 0; 0 for the channels of `side`.
        offset: float64 (channels,), a whole number of steps each; None = no shift.
        amax: threshold of x'; where there is a shift it belongs to it.
        exponent: a; None = left as it is.
        side: channels that go past the quantizer in float, ascending.
        error: mean squared error of the readers' outputs over their variance, bias apart.
        span: (smallest, largest) of x' where its grid is uint8 with a zero point of its own; None
            where it is int8 at `amax`.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64] | None
    amax: float
    exponent: float | None
    side: tuple[int, ...] = ()
    error: float = 0.0
    span: tuple[float, float] | None = None

    @property
    def step(self) -> float:
        """Between two codes, in units of x'."""
        if self.span is None:
            return self.amax / INT8_MAX
        low, high = self.span
        return (max(high, 0.0) - min(low, 0.0)) / (2 * INT8_MAX + 1) or 1.0

    @property
    def codes(self) -> tuple[int, int]:
        """The smallest and the largest code, counted from that of 0."""
        if self.span is None:
            return -INT8_MAX, INT8_MAX
        zero = round(-min(self.span[0], 0.0) / self.step)
        return -zero, 2 * INT8_MAX + 1 - zero


def scaled_weight(reader: Reader, choice: Equalized) -> NDArray[np.float64]:
    """W' = W / gain, zero for the channels beside; float64 of the weight's shape."""
    return reader.weight * reader.by_column(inverse(choice.gain))


def inverse(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / gain; 0 for the channels that go past the quantizer."""
    return np.divide(1.0, gain, out=np.zeros_like(gain), where=gain > 0)


def quantized_rows(
    reader: Reader, choice: Equalized
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """X' and what INT8 makes of it, both float32 of the rows' shape."""
    moved = reader.rows * reader.by_column(choice.gain)
    if choice.offset is not None:
        moved += reader.by_column(choice.offset)
    step = np.float32(choice.step)
    return moved, np.clip(np.rint(moved / step), *choice.codes) * step


def quantized_covariance(
    reader: Reader, choice: Equalized, covariance: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Covariance of what INT8 makes of X', from that of X; float64 (groups, columns, columns).

    Rounding adds step²/12 to the variance of each column that changes at all, and is independent
    of the columns.
    """
    gain = reader.by_column(choice.gain).astype(np.float64)
    found = covariance * gain * gain.transpose(0, 2, 1)
    step = choice.step
    index = np.arange(found.shape[1])
    variance = found[:, index, index]
    found[:, index, index] += np.where(variance > 0, step * step / 12, 0.0)
    return found
