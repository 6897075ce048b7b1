"""A factor, and where it helps a shift, for each channel of an activation before it is rounded.

One scale serves all channels of a tensor, so a narrow channel beside a wide one keeps few codes,
and one that is never negative wastes half of them. x' = x·gain + offset gives each channel more of
the grid; the weights take it back exactly (see `calib.graph.channel_affine`).

The factor is SmoothQuant's, s_j = max|x_j|^a / max|W_j|^(1-a) (arXiv 2211.10438), the shift that of
Outlier Suppression+, (max + min)/2 (arXiv 2304.09145), but rounded to a whole number of steps: zero
stays a code of its own, which an activation with many zeros cannot do without. a, and whether to
shift, come from the error of the readers' own outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calib.remedies.quantized_input import Equalized, Reader, inverse, quantized_rows
from calib.remedies.rounding import INT8_MAX

EXPONENTS = (0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
_ROWS_MIN, _ROWS_MAX = 64, 512
"""A mean over so many rows tells exponents apart; more only takes longer."""
_VALUES_MAX = 1 << 20
"""Where there are so many values in fewer rows, they do, too."""
_BETTER_ROUNDING = 0.5
"""What GPTQ leaves of the error of the nearest codes, seen on transformers: 2 to 4 dB less."""
_WITH_SIDE = 2
_NEARLY = 1.06
"""A quarter of a dB is not worth another operation."""
_HALF_STEP = 0.5
"""Room for the rounding of the shift: a channel's ends move by up to half a step."""


@dataclass(frozen=True, slots=True)
class Extremes:
    """The smallest and the largest value of each channel, float64 (channels,)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def without(self, channels: tuple[int, ...]) -> "Extremes":
        """The same, with these channels as if they held nothing."""
        low, high = self.low.copy(), self.high.copy()
        low[list(channels)] = high[list(channels)] = 0.0
        return Extremes(low, high)


@dataclass(frozen=True, slots=True)
class Options:
    """What may be tried.

    Attributes:
        shift: whether channels may be shifted.
        side: how many channels may go past the quantizer in float.
        exponents: a to try.
        unsigned: whether a grid has a zero point of its own where there is no shift.
    """

    shift: bool = True
    side: int = 0
    exponents: tuple[float, ...] = EXPONENTS
    unsigned: bool = False


class _Judge:
    """One reader on a part of its rows, which are enough to tell choices apart."""

    def __init__(self, reader: Reader) -> None:
        groups, count, columns = reader.rows.shape
        most = min(max(_VALUES_MAX // max(groups * columns, 1), _ROWS_MIN), _ROWS_MAX)
        step = -(-count // most)
        rows = np.ascontiguousarray(reader.rows[:, ::step])
        self._reader = replace(reader, rows=rows)
        self._weight = reader.weight.astype(np.float32)
        exact = np.matmul(rows, self._weight.transpose(0, 2, 1))
        self._variance = float(exact.var(axis=1, dtype=np.float64).sum())

    def output_error(self, choice: Equalized) -> float:
        """Mean squared error of the output over its variance, without what a bias mends.

        Rounding the weights is counted apart, and in expectation: its errors are independent of
        each other, and they can be had lower than with the nearest codes.
        """
        if not self._variance:
            return 0.0
        back = self._reader.by_column(inverse(choice.gain))
        weight = self._weight * back
        moved, rounded = quantized_rows(self._reader, choice)
        error = np.matmul(rounded - moved, weight.transpose(0, 2, 1))
        of_inputs = float(error.var(axis=1, dtype=np.float64).sum())
        energy = np.square(_rounding(weight, self._reader.limit), dtype=np.float64).sum(axis=1)
        of_weights = float((energy * moved.var(axis=1, dtype=np.float64)).sum())
        return (of_inputs + _BETTER_ROUNDING * of_weights) / self._variance


def _rounding(weight: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """What rounding to the nearest codes of each output's own scale changes."""
    step = np.abs(weight).max(axis=2, keepdims=True) / np.float32(limit)
    step = np.where(step > 0, step, np.float32(1))
    return np.asarray(np.rint(weight / step) * step - weight, dtype=np.float32)


def as_it_is(extremes: Extremes, readers: Sequence[Reader], *, unsigned: bool = False) -> Equalized:
    """No factor, no shift."""
    return _measured(_unchanged(extremes, unsigned), [_Judge(reader) for reader in readers])


def _unchanged(extremes: Extremes, unsigned: bool) -> Equalized:
    amax = float(np.maximum(np.abs(extremes.low), np.abs(extremes.high)).max(initial=0.0)) or 1.0
    gain = np.ones(len(extremes.low))
    return Equalized(gain, None, amax, None, span=_span(extremes, gain) if unsigned else None)


def _span(extremes: Extremes, gain: NDArray[np.float64]) -> tuple[float, float]:
    return float((extremes.low * gain).min()), float((extremes.high * gain).max())


def choices(
    extremes: Extremes, readers: Sequence[Reader], options: Options
) -> tuple[Equalized, ...]:
    """Everything that may be tried with its error, as it is first.

    Args:
        extremes: over all the data.
        readers: all nodes that read the activation in INT8.
        options: what may be tried.
    """
    judges = [_Judge(reader) for reader in readers]
    widest = _widest_weights(len(extremes.low), readers)
    found = [_measured(_unchanged(extremes, options.unsigned), judges)]
    for shift in (False, True) if options.shift else (False,):
        plain = [
            _measured(_choice(extremes, widest, exponent, shift, options.unsigned), judges)
            for exponent in options.exponents
        ]
        found += plain
        if options.side:
            # Where the factors are good, channels beside are tried too.
            for choice in sorted(plain, key=lambda c: c.error)[:_WITH_SIDE]:
                found.append(_measured(_with_side(extremes, widest, choice, options), judges))
    return tuple(found)


def best(found: Sequence[Equalized], *, scale: bool, shift: bool, side: bool) -> Equalized:
    """Of these choices the simplest that is nearly as good as the best.

    Args:
        found: see `choices`.
        scale: whether a factor is allowed.
        shift: whether a shift is.
        side: whether channels beside the quantizer are.
    """
    allowed = [
        c
        for c in found
        if (scale or c.exponent is None) and (shift or c.offset is None) and (side or not c.side)
    ]
    least = min(choice.error for choice in allowed)
    good = [choice for choice in allowed if choice.error <= least * _NEARLY]
    return min(good, key=lambda c: (bool(c.side), c.offset is not None, c.error))


def _with_side(
    extremes: Extremes, widest: NDArray[np.float64], choice: Equalized, options: Options
) -> Equalized:
    """The same with the channels of the widest weights beside the quantizer."""
    if choice.exponent is None:
        raise AssertionError("only a factor's choice is refined")
    side = _widest_columns(widest, choice.gain, options.side)
    shift = choice.offset is not None
    left = extremes.without(side)
    return _beside(_choice(left, widest, choice.exponent, shift, options.unsigned), side)


def _widest_columns(
    widest: NDArray[np.float64], gain: NDArray[np.float64], count: int
) -> tuple[int, ...]:
    """The channels whose weights are the widest once they have taken the factor back.

    They set the weights' scales for all others: what is left of the error after equalization.
    """
    order = np.argsort(-widest / gain, kind="stable")
    return tuple(sorted(int(channel) for channel in order[:count]))


def _beside(choice: Equalized, side: tuple[int, ...]) -> Equalized:
    gain = choice.gain.copy()
    gain[list(side)] = 0.0
    offset = None if choice.offset is None else np.where(gain > 0, choice.offset, 0.0)
    return replace(choice, gain=gain, offset=offset, side=side)


def _widest_weights(channels: int, readers: Sequence[Reader]) -> NDArray[np.float64]:
    """max|W_j| of each input channel over all readers; float64 (channels,)."""
    found = np.zeros(channels)
    for reader in readers:
        columns = np.abs(reader.weight).max(axis=1).ravel()
        found = np.maximum(found, columns.reshape(channels, reader.taps).max(axis=1))
    used = found > 0
    return np.where(used, found, found[used].min() if used.any() else 1.0)


def _choice(
    extremes: Extremes, widest: NDArray[np.float64], exponent: float, shift: bool, unsigned: bool
) -> Equalized:
    low, high = extremes.low, extremes.high
    half = (high - low) / 2 if shift else np.maximum(np.abs(low), np.abs(high))
    lives = half > 0
    if not lives.any():
        return Equalized(np.ones(len(low)), None, 1.0, exponent)
    scale = np.where(lives, half, 1.0) ** exponent * widest ** (exponent - 1)
    scale = np.where(lives, scale, np.median(scale[lives]))
    gain = 1 / (scale * (half / scale).max())
    if not shift:
        span = _span(extremes, gain) if unsigned else None
        return Equalized(gain, None, 1.0, exponent, span=span)
    step = 1 / (INT8_MAX - _HALF_STEP)
    offset = -np.rint((high + low) / 2 * gain / step) * step
    return Equalized(gain, offset, INT8_MAX * step, exponent)


def _measured(choice: Equalized, readers: Sequence[_Judge]) -> Equalized:
    error = sum(judge.output_error(choice) for judge in readers) / len(readers)
    return replace(choice, error=error)
