"""calib's command line in a process of its own, which may die in any way."""

import faulthandler
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calib.cli import main

HANG_SECONDS = 60.0
MEMORY_BYTES = 6 << 30
"""Address space of a child beyond what it starts with: a file that asks for more gets none."""

_RAW = re.compile(r"(\x1b\[1;31m)?\d{4}-\d\d-\d\d [\d:.]+ \[[EWF]:onnxruntime|\x1b\[m")
"""ONNX Runtime's own log, which is counted on its own."""

Prepare = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; minus the signal's number if a signal ended it.
        hung: it was ended after `HANG_SECONDS`.
        out: standard output.
        err: standard error, that of native libraries too.
        seconds: it took.
    """

    code: int
    hung: bool
    out: str
    err: str
    seconds: float

    @property
    def problem(self) -> str:
        """What is wrong with this ending; empty if it is a good run or one message and code 2."""
        if self.hung:
            return "hang"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        if "Traceback (most recent call last)" in self.err + self.out:
            return "traceback"
        if self.code == 70:
            return "fault"
        if self.code == 2:
            return self._message_problem()
        return "" if self.code in (0, 1, 3, 4) else f"exit code {self.code}"

    @property
    def has_raw_log(self) -> bool:
        """Whether ONNX Runtime's own log lines are on the screen."""
        return any(_RAW.match(line) for line in self.err.splitlines())

    def _message_problem(self) -> str:
        lines = [line for line in self.err.splitlines() if not _RAW.match(line)]
        starts = [line for line in lines if line.startswith("error: ")]
        if len(starts) != 1 or lines[0] != starts[0]:
            return "not one message"
        hidden = [line for line in lines if not line.isprintable()]
        return "control characters" if hidden else ""


def command(
    arguments: list[str],
    folder: Path,
    *,
    prepare: Prepare | None = None,
    spare_bytes: int = MEMORY_BYTES,
) -> Outcome:
    """Run a command in a forked process, in this folder.

    Args:
        arguments: after `calib`.
        folder: its current directory.
        prepare: called in the process first.
        spare_bytes: address space that it may take beyond what it starts with.
    """
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = os.fork()
        if process == 0:
            resource.setrlimit(resource.RLIMIT_AS, (_own_bytes() + spare_bytes,) * 2)
            _run(arguments, folder, (out.fileno(), err.fileno()), prepare)
        hung, status = _waited(process, begin + HANG_SECONDS)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, hung, texts[0], texts[1], time.monotonic() - begin)


def _own_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _run(
    arguments: list[str], folder: Path, streams: tuple[int, int], prepare: Prepare | None
) -> None:
    code = 99
    try:
        os.setsid()
        faulthandler.disable()  # a test runner's would write to a stream of its own
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["calib", *arguments]
        if prepare is not None:
            prepare()
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(process: int, end: float) -> tuple[bool, int]:
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return False, status
        if time.monotonic() > end:
            os.killpg(process, signal.SIGKILL)
            return True, os.waitpid(process, 0)[1]
        time.sleep(0.005)
