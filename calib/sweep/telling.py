"""Whom a sweep tells how far it is."""

from typing import Protocol

from calib.progress import Progress, Silent


class Telling(Protocol):
    """Shows one line over all trials."""

    def begin(self, trials: int, done: int) -> None:
        """So many trials in all, and so many of them that were there before."""
        ...

    def trial(self, text: str) -> Progress:
        """A trial, or several side by side, that run now; their stages go to what is returned."""
        ...

    def finished(self) -> None:
        """A trial has ended."""
        ...

    def note(self, text: str) -> None:
        """Something that is worth a line."""
        ...

    def end(self) -> None:
        """There is nothing more to tell."""
        ...


class Quiet:
    """Shows nothing."""

    def begin(self, trials: int, done: int) -> None:
        """See `Telling`."""

    def trial(self, text: str) -> Progress:  # noqa: ARG002 - protocol
        """See `Telling`."""
        return Silent()

    def finished(self) -> None:
        """See `Telling`."""

    def note(self, text: str) -> None:
        """See `Telling`."""

    def end(self) -> None:
        """See `Telling`."""
