"""What workers are given, and what gives it to them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from calib.progress import Advance

Take = Callable[[int, Path], None]
"""Called with a request's index and the folder with its files, as soon as it is done."""

Handler = Callable[[str, Path, Path, Advance], None]
"""What a worker runs: takes the request, the model's file, the folder to fill, and a function to
call with the samples done. Files that lie in the folder then are whole, and may be taken away."""


NO_MODEL = Path(os.devnull)
"""Of work that runs none: an empty file."""


@dataclass(frozen=True, slots=True)
class Work:
    """Work in shards.

    Attributes:
        handler: `module:function` of a `Handler`, importable by the workers.
        requests: one a shard, JSON.
        model: what all of them run, if it is one.
        beside: files that the model refers to, below its folder.
    """

    handler: str
    requests: tuple[str, ...]
    model: Path = NO_MODEL
    beside: tuple[Path, ...] = ()


class Executor(Protocol):
    """Runs work on workers.

    Attributes:
        workers: how many there are at most.
    """

    workers: int

    def run(self, work: Work, folder: Path, advance: Advance, take: Take) -> None:
        """Have every request done; a shard whose worker dies is done again.

        Args:
            work: what to do.
            folder: existing; what the workers write is kept below it until it is taken.
            advance: called with the samples done; what is done again does not count twice.
            take: called once for each request, in the order in which they end. It takes the files
                away, or leaves them to be removed.

        Raises:
            InputError: the first that a worker reports; the others are ended.
            BackendError: if a shard's workers keep dying, or a worker fails by anything else.
        """
        ...
