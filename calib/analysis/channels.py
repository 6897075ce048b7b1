"""Errors of an output channel by channel: of boxes and scores in one output, the scores' own."""

import numpy as np
from numpy.typing import NDArray

from calib.results import ChannelErrors
from data_loaders.types import Array

_CHANNELS_MAX = 4096
"""More are no channels that anybody would name."""
_CONSTANT = 1e-9
"""Of the mean square: a spread below it is what rounding leaves of a constant."""
_SHOWN = 20


class ChannelAccumulator:
    """Sums over batches, for each channel of one output.

    Args:
        batch_axis: of the batch; None where the output has none.
    """

    def __init__(self, batch_axis: int | None) -> None:
        self._batch_axis = batch_axis
        self._axis: int | None = None
        self._sums: NDArray[np.float64] | None = None

    def add(self, reference: Array, candidate: Array) -> None:
        """Take in a batch; one of another shape, or without channels, is passed over."""
        axis = channel_axis(reference.shape, self._batch_axis)
        if axis is None or reference.shape != candidate.shape:
            return
        channels = reference.shape[axis]
        if self._sums is not None and channels != self._sums.shape[1]:
            return
        true, said = (
            np.moveaxis(a, axis, -1).reshape(-1, channels).astype(np.float64)
            for a in (reference, candidate)
        )
        known = np.isfinite(true)
        with np.errstate(invalid="ignore", over="ignore"):
            true, said = np.where(known, true, 0.0), np.where(known, said, 0.0)
            parts = (known, true, true**2, said, said**2, (true - said) ** 2)
            sums = np.stack([part.sum(axis=0, dtype=np.float64) for part in parts])
        self._axis = axis
        self._sums = sums if self._sums is None else self._sums + sums

    def result(self) -> ChannelErrors | None:
        """None for an output without channels, or with one alone."""
        if self._sums is None or self._axis is None or self._sums.shape[1] < 2:
            return None
        count, true, true_squares, said, said_squares, noise = self._sums
        count = np.maximum(count, 1)
        with np.errstate(invalid="ignore", over="ignore"):
            spread = true_squares - true**2 / count
            own = said_squares - said**2 / count
            varies = spread > _CONSTANT * true_squares
            r2 = np.where(varies, 1 - noise / np.where(varies, spread, 1), np.nan)
        # A candidate that is not finite explains nothing.
        r2 = np.where(varies & ~np.isfinite(noise), -np.inf, r2)
        collapsed = np.flatnonzero(varies & (own <= _CONSTANT * np.maximum(said_squares, 1e-300)))
        worst = None if np.isnan(r2).all() else int(np.nanargmin(r2))
        return ChannelErrors(
            axis=self._axis,
            channels=len(r2),
            constant=int((~varies).sum()),
            worst=worst,
            worst_r2=None if worst is None else float(r2[worst]),
            collapsed=len(collapsed),
            collapsed_channels=tuple(int(c) for c in collapsed[:_SHOWN]),
        )


def channel_axis(shape: tuple[int, ...], batch_axis: int | None) -> int | None:
    """Which axis of an output holds channels: values of different kinds, not positions.

    Of one axis beside the batch that one; of more, the second where a picture follows it, as in
    (batch, channels, height, width); of two, the shorter.
    """
    others = [axis for axis in range(len(shape)) if axis != batch_axis]
    if not others or 0 in shape:
        return None
    if len(others) == 1:
        found = others[0]
    elif len(others) == 2:
        found = min(others, key=lambda axis: shape[axis])
    else:
        found = min((others[0], others[-1]), key=lambda axis: shape[axis])
    return found if shape[found] <= _CHANNELS_MAX else None
