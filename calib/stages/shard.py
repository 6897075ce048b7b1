"""A part of the batches of a data set."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """Every `of`-th batch, starting with the `number`-th, both counted from 1."""

    number: int = 1
    of: int = 1

    def has(self, batch: int) -> bool:
        """Whether the batch of this number (from 0) belongs to it."""
        return batch % self.of == self.number - 1

    def split(self, parts: int) -> tuple["Shard", ...]:
        """Shards that together have the batches of this one."""
        return tuple(Shard(self.number + self.of * k, self.of * parts) for k in range(parts))

    def stretch(self, batches: int) -> range:
        """Its batches where they lie side by side: those of all shards are every batch once."""
        return range(batches * (self.number - 1) // self.of, batches * self.number // self.of)


def pieces(stretch: range, parts: int) -> Iterator[range]:
    """The stretch in so many pieces, in order, of equal length or one more."""
    for number in range(1, parts + 1):
        piece = Shard(number, parts).stretch(len(stretch))
        yield range(stretch.start + piece.start, stretch.start + piece.stop)
