"""How stages say what they are doing, without knowing of terminals."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows the stages to somebody."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """Announce a stage of `total` steps; call the yielded function with the steps done."""
        ...

    def note(self, text: str) -> None:
        """Say something that is worth a line."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002 - protocol
        """See `Progress.stage`."""
        yield lambda _: None

    def note(self, text: str) -> None:
        """See `Progress.note`."""
