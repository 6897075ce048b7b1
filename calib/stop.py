"""Ctrl-C as a wish to go on with what has been found so far; a second one ends the program."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yields whether somebody wants the search to stop.

    Args:
        tell: told when somebody does.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def stop(_: int, __: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)
        tell("stopping with the best so far, after what is running now; Ctrl-C again ends at once")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
