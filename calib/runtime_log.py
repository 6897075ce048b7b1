"""What runtimes write past Python, kept from the screen."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calib.errors import BackendError
from calib.store import write_atomically

LOG_NAME = "runtime.log"
_STANDARD_ERROR = 2
_SHOWN = 160
_PREFIX = re.compile(r"^\S+ \S+ \[\w:[^\]]*\] ")
"""The time and the place in the runtime's sources."""
_ERROR = re.compile(r"^\S+ \S+ \[[EF]:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class RuntimeLog:
    """The messages so far."""

    _file: Path

    @property
    def lines(self) -> list[str]:
        """Without colours, and without lines that are empty."""
        text = _COLOUR.sub("", self._file.read_text(encoding="utf-8", errors="replace"))
        return [line for line in text.splitlines() if line.strip()]

    def keep(self, folder: Path) -> str | None:
        """Write them to `runtime.log`, if there are any.

        Returns:
            A sentence if there are errors among them; warnings alone are worth none.
        """
        lines = self.lines
        if not lines:
            return None
        write_atomically(folder / LOG_NAME, "\n".join(lines) + "\n")
        errors = [line for line in lines if _ERROR.match(line)]
        if not errors:
            return None
        first = _PREFIX.sub("", errors[0])[:_SHOWN]
        return f"the runtime reported {len(errors)} errors ({LOG_NAME}), first: {first}"


@contextmanager
def runtime_log(on_failure: Path) -> Iterator[RuntimeLog]:
    """Let native code write to a file in place of standard error; Python's goes where it went.

    ONNX Runtime and TensorRT write to the file descriptor, which nothing in Python can hold back.

    Args:
        on_failure: the folder where the log is kept if a runtime refuses something; the error then
            says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LOG_NAME)
        with path.open("wb") as file:
            screen, python = os.dup(_STANDARD_ERROR), sys.stderr
            is_own = python is not None and _descriptor(python) == _STANDARD_ERROR
            if is_own:
                python.flush()
                sys.stderr = os.fdopen(
                    os.dup(screen), "w", buffering=1, encoding=python.encoding, errors=python.errors
                )
            os.dup2(file.fileno(), _STANDARD_ERROR)
            try:
                yield RuntimeLog(path)
            except BackendError as error:
                RuntimeLog(path).keep(on_failure)
                if RuntimeLog(path).lines and error.fix is None:
                    error.fix = f"The runtime's own log is in {on_failure / LOG_NAME}."
                raise
            finally:
                os.dup2(screen, _STANDARD_ERROR)
                os.close(screen)
                if is_own:
                    sys.stderr.close()
                    sys.stderr = python


def _descriptor(stream: object) -> int | None:
    """The file descriptor behind a stream; None if there is none, as under a test."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
