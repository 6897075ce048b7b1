"""How a command ends that could not be carried out: one message and an exit code, no traceback."""

import platform
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from calib.environment import package_versions
from calib.errors import InputError
from calib.store import DISK_FULL, write_atomically
from data_loaders.printable import printable

BAD_INPUT = 2
FAULT = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""
TERMINATED = 143
"""The same for SIGTERM."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is said, and the exit code."""

    message: str
    code: int


class LoggedError(Exception):
    """An error that nobody foresaw, its cause, and the folder that the log of it goes to.

    None stands for that of temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        super().__init__(str(folder))


class Interruption(Exception):  # noqa: N818 - nothing is wrong
    """Ctrl-C or SIGTERM, on its way through a library that would make something else of it."""


class Termination(KeyboardInterrupt):
    """SIGTERM. Whatever lets Ctrl-C through lets it through, and cleans up on the way."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM inside ends like Ctrl-C, and not at once: processes and hidden folders are cleared.

    The first process of a container gets only the signals that it asks for, so without this
    `docker stop` would wait and then kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_: int, __: FrameType | None) -> None:
        raise Termination

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def faults_logged_in(folder: Path) -> Iterator[None]:
    """What goes wrong inside, through a fault of calib, is logged in this folder."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise LoggedError(folder) from error


def ending_of(error: BaseException) -> Ending:
    """How the command line ends with this error; writes the log of one that nobody foresaw.

    What the user gave, a full disk and too little memory are no faults: exit code 2.
    """
    folder = None
    if isinstance(error, LoggedError):
        folder, error = error.folder, error.__cause__ or error
    if isinstance(error, Interruption):
        error = error.__cause__ or error
    if isinstance(error, Termination):
        return Ending("terminated; finished stages are kept", TERMINATED)
    if isinstance(error, Interruption | KeyboardInterrupt):
        return Ending("interrupted; finished stages are kept", INTERRUPTED)
    if isinstance(error, InputError):
        return Ending(f"error: {error}", BAD_INPUT)
    if isinstance(error, MemoryError):
        return Ending(
            f"error: memory: there is not enough ({_said(error)}). Lower data.batch_size, or set "
            "calibration.memory_mb.",
            BAD_INPUT,
        )
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = error.filename or folder or Path.cwd()
        return Ending(
            f"error: {printable(str(where))}: cannot write here: {error.strerror}. Free some "
            "space, or choose other directories with --set output.reports=… output.store=….",
            BAD_INPUT,
        )
    log = _written_log(error, folder)
    return Ending(
        f"error: this is a fault of calib, not of what you gave: {_said(error)}\n"
        f"details: {log}\n"
        "Please report it, with that file, to whoever maintains your copy of calib: it holds the "
        "traceback, versions and the command line, and no data but what the error itself names. "
        "Finished stages are kept.",
        FAULT,
    )


def _said(error: BaseException) -> str:
    text = printable(str(error)).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _written_log(error: BaseException, folder: Path | None) -> str:
    """Where the log is; in the system's folder for temporary files if the wanted one is no use."""
    name = f"fault-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log"
    versions = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    # Lone surrogates, of file names that are no UTF-8, cannot be written as they are.
    text = "\n".join(
        [
            f"command: {shlex.join(sys.argv)}",
            f"Python {platform.python_version()}, {platform.platform()}",
            versions,
            "",
            "".join(traceback.format_exception(error)),
        ]
    ).encode(errors="backslashreplace")
    for parent in (folder, Path(tempfile.gettempdir())):
        if parent is None:
            continue
        try:
            write_atomically(parent / name, text)
        except InputError:
            continue
        return printable(str(parent / name))
    return "no log could be written"
