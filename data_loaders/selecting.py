"""Which samples of a source are read: a stretch of it, a random subset, or a part of either."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_loaders.base import LoaderSpec, SubsetSpec
from data_loaders.types import Sample

T = TypeVar("T")

Positions: TypeAlias = range | NDArray[np.int64]
"""Places in a source, from 0, ascending."""

_ENDLESS = 2**62
EVERY = range(_ENDLESS)


def stretch(spec: LoaderSpec) -> range:
    """The places that `skip` and `samples` leave."""
    return range(spec.skip, _ENDLESS if spec.samples is None else spec.skip + spec.samples)


def within(positions: Positions, begin: int, end: int) -> Positions:
    """Those from `begin` up to, not including, `end`."""
    if isinstance(positions, range):
        return range(max(positions.start, begin), max(min(positions.stop, end), begin))
    low, high = np.searchsorted(positions, [begin, end])
    return positions[low:high]


def end_of(positions: Positions) -> int:
    """The place behind the last one; 0 if there is none."""
    return int(positions[-1]) + 1 if len(positions) else 0


def picked(items: Iterable[T], positions: Positions) -> Iterator[tuple[int, T]]:
    """The items at these places, with them; nothing is read behind the last."""
    wanted = iter(positions)
    following = next(wanted, None)
    if following is None:
        return
    for place, item in enumerate(items):
        if place == following:
            yield place, item
            following = next(wanted, None)
            if following is None:
                return


class Ascending:
    """Whether places, asked for in ascending order, are among these."""

    def __init__(self, positions: Positions) -> None:
        self._positions, self._next = positions, 0

    def has(self, place: int) -> bool:
        """Whether it is; no place before it is asked for any more."""
        if isinstance(self._positions, range):
            return place in self._positions
        while self._next < len(self._positions) and self._positions[self._next] < place:
            self._next += 1
        return self._next < len(self._positions) and int(self._positions[self._next]) == place


def chosen(ids: Iterable[tuple[int, str]], subset: SubsetSpec) -> NDArray[np.int64]:
    """The places of a random subset, ascending.

    Whether a sample is in it depends on its id and the seed: samples are ranked by a hash of both.
    So the order in which they come, and what files they are in, changes nothing.

    Args:
        ids: place and id of every sample there is.
        subset: how many, or what share.
    """
    ranked = ((_rank(name, subset.seed), name, place) for place, name in ids)
    if subset.share is not None:
        limit = int(subset.share * 2**64)
        found = [place for rank, _, place in ranked if rank < limit]
    else:
        least = heapq.nsmallest(subset.skip + (subset.count or 0), ranked)
        found = [place for _, _, place in least[subset.skip :]]
    return np.sort(np.array(found, dtype=np.int64))


def _rank(name: str, seed: int) -> int:
    """Uniform over 64 bits."""
    text = f"{seed}\0{name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Choosing:
    """What loaders share that take a part of their source.

    A subset is found by one pass over the ids, when it is first needed.
    """

    spec: Any
    _chosen: NDArray[np.int64] | None = None

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        """Place and id of what there is at these places; inputs need not be made."""
        raise NotImplementedError

    def known(self) -> dict[str, Any]:
        """What reading it found out, in JSON's types, for `recall` in another process."""
        return {} if self._chosen is None else {"chosen": self._chosen.tolist()}

    def recall(self, known: Mapping[str, Any]) -> None:
        """Take over what another reading of the same data found out."""
        if "chosen" in known:
            self._chosen = np.array(known["chosen"], dtype=np.int64)

    def total(self) -> int | None:
        """How many places the source has, where that is told without reading it through."""
        return None

    def count(self) -> int | None:
        """How many samples it has, where that is told without making them."""
        if self.spec.subset is not None:
            return len(self.positions)
        total = self.total()
        return None if total is None else len(within(self.positions, 0, total))

    @property
    def positions(self) -> Positions:
        """The places of its samples in the source; they may reach beyond its end."""
        spec: LoaderSpec = self.spec
        if spec.subset is None:
            return stretch(spec)
        if self._chosen is None:
            self._chosen = chosen(self._ids(stretch(spec)), spec.subset)
        return self._chosen


class Selecting(Choosing):
    """A loader that makes the samples of some places without making the others."""

    def _read(self, positions: Positions) -> Iterator[Sample]:
        """The samples at these places."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Sample]:
        return self._read(self.positions)

    def part(self, begin: int, end: int) -> Iterator[Sample]:
        """Its samples from number `begin` up to `end`, as a reading of all would give them."""
        return self._read(self.positions[begin:end])
