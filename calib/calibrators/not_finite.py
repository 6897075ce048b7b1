"""NaN and infinity among a tensor's values: counted apart, so that they set no range."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array

IDS_KEPT = 3


@dataclass(frozen=True, slots=True)
class NotFinite:
    """How many values of a tensor were not finite, and where.

    Attributes:
        nan: number of NaN.
        positive: number of +inf.
        negative: number of -inf.
        samples: that hold one or more; of a batch that no axis of the tensor tells apart, all.
        ids: the first of them in the order of their names, at most IDS_KEPT.
    """

    nan: int = 0
    positive: int = 0
    negative: int = 0
    samples: int = 0
    ids: tuple[str, ...] = ()

    @property
    def values(self) -> int:
        """How many there are."""
        return self.nan + self.positive + self.negative

    def merge(self, other: "NotFinite") -> "NotFinite":
        """Those of both, which share no sample: exact, associative, commutative."""
        return NotFinite(
            self.nan + other.nan,
            self.positive + other.positive,
            self.negative + other.negative,
            self.samples + other.samples,
            tuple(sorted((*self.ids, *other.ids))[:IDS_KEPT]),
        )

    def kinds(self) -> str:
        """How many of each kind, e.g. `12 NaN, 3 -inf`."""
        counts = {"NaN": self.nan, "+inf": self.positive, "-inf": self.negative}
        return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


NONE = NotFinite()


def not_finite_values(
    values: NDArray[np.float32], kept: NDArray[np.bool_], ids: Sequence[str]
) -> NotFinite:
    """Count NaN and infinity.

    Args:
        values: any shape; if its first axis is the batch, or that and something else end to end,
            samples are told apart.
        kept: bool, the same shape: which values count.
        ids: of the samples.
    """
    bad = kept & ~np.isfinite(values)
    chosen = values[bad]
    broken = sorted(ids[index] for index in broken_samples(bad, len(ids)))
    return NotFinite(
        nan=int(np.isnan(chosen).sum()),
        positive=int((chosen == np.inf).sum()),
        negative=int((chosen == -np.inf).sum()),
        samples=len(broken),
        ids=tuple(broken[:IDS_KEPT]),
    )


def broken_samples(bad: Array, samples: int) -> list[int]:
    """The indices of the samples with a True; all of them if no axis tells them apart."""
    if not samples or not bad.any():
        return []
    if bad.ndim == 0 or len(bad) % samples:
        return list(range(samples))
    return [int(i) for i in np.flatnonzero(bad.reshape(samples, -1).any(axis=1))]
