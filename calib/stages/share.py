"""A worker's share of a split: enough to make its batches again, in another process."""

from collections.abc import Iterator
from dataclasses import dataclass

from calib.stages.batch_axes import BatchAxes
from calib.stages.shard import Shard, pieces
from calib.stages.splits import Batches, Origin, Split
from data_loaders import Batch


@dataclass(frozen=True, slots=True)
class Share:
    """Some of a split's batches.

    Attributes:
        origin: the data.
        batch_size: see `Batches`.
        batch_axes: see `Batches`.
        shared_shapes: see `Batches`.
        shard: which batches.
        stretch: their first number and the one behind the last, if they lie side by side.
    """

    origin: Origin
    batch_size: int
    batch_axes: BatchAxes
    shared_shapes: dict[str, tuple[int, ...]]
    shard: Shard
    stretch: tuple[int, int] | None = None

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Its batches with their numbers in the whole split."""
        split = Batches(
            data=self.origin.samples(),
            batch_size=self.batch_size,
            axes=self.batch_axes,
            shared_shapes=self.shared_shapes,
        )
        return split.of_shard(self.shard, None if self.stretch is None else range(*self.stretch))


def shares(split: Split, shard: Shard, workers: int) -> tuple[Share, ...]:
    """The batches of a shard, shared out among workers: stretches where the data has them."""
    shapes = dict(split.shared_shapes)
    own = shard.split(workers)
    whole = split.stretch(shard)
    stretches = [None] * workers if whole is None else list(pieces(whole, workers))
    return tuple(
        Share(
            split.origin,
            split.batch_size,
            split.axes,
            shapes,
            part,
            None if stretch is None else (stretch.start, stretch.stop),
        )
        for part, stretch in zip(own, stretches, strict=True)
    )
