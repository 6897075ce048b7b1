"""What has become of each shard: how far it is, how often it was tried."""

from calib.errors import BackendError
from calib.progress import Advance

WHERE = "execution"
_LINE = 300
"""Characters of a worker's last words."""


class Ledger:
    """One bar over all shards that never goes back, and an end to what fails again and again."""

    def __init__(self, shards: int, attempts: int, advance: Advance) -> None:
        self._advance = advance
        self._attempts = attempts
        self._done = [0] * shards
        self._shown = [0] * shards
        self._deaths: list[list[str]] = [[] for _ in range(shards)]

    def add(self, shard: int, count: int) -> None:
        """A worker has done so many more samples of a shard."""
        self._done[shard] += count
        gain = self._done[shard] - self._shown[shard]
        if gain > 0:
            self._shown[shard] += gain
            self._advance(gain)

    def died(self, shard: int, words: str) -> None:
        """A shard's worker has died: it starts anew.

        Raises:
            BackendError: if it has been tried often enough.
        """
        self._done[shard] = 0
        deaths = self._deaths[shard]
        deaths.append(words)
        if len(deaths) >= self._attempts:
            times = f"{len(deaths)} times" if len(deaths) > 1 else "once"
            raise BackendError(
                WHERE,
                f"{self.name(shard)}: its worker died {times}, the last time by: "
                f"{last_words(words)}",
                fix="Run it again with --jobs 1, which says more; if memory is short, take fewer "
                "workers, lower data.batch_size, or set calibration.memory_mb.",
            )

    def name(self, shard: int) -> str:
        """How messages call a shard."""
        return f"shard {shard + 1} of {len(self._done)}"


def last_words(text: str) -> str:
    """The last line of what a worker wrote, cut to a length for messages."""
    return (text.strip().splitlines() or ["no message"])[-1].strip()[:_LINE]


def failure(shard: str, how: str, words: str) -> BackendError:
    """What to raise of a worker that failed by an error which no message was made for."""
    return BackendError(
        WHERE,
        f"{shard} {how}: {last_words(words)}",
        fix="Run it again with --jobs 1, which says more.",
    )
