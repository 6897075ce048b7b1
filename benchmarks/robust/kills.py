"""kill -9 at every boundary of a stage and before every change of a file, then the same again."""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import calib.cli
from benchmarks.robust.command import Prepare, command
from calib.progress import Advance

_CHANGES = frozenset({"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})
_FILES = ("*.onnx", "scales.json", "statistics.npz", "samples.csv", "layers.csv", "thresholds.csv")
ARGUMENTS = ["run", "config.yaml"]


class _Boundaries:
    """Progress that counts the ends and beginnings of stages, and dies at one of them."""

    def __init__(self, at: int, log: Path | None) -> None:
        self._at, self._log, self._seen = at, log, 0

    def _pass(self) -> None:
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1
        if self._log:
            self._log.write_text(str(self._seen))

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """See `calib.progress.Progress.stage`."""
        self._pass()
        yield lambda _: None
        self._pass()

    def note(self, text: str) -> None:
        """See `calib.progress.Progress.note`."""


def at_boundary(number: int, log: Path | None = None) -> Prepare:
    """Die at this boundary; with -1 count them into a file."""

    def prepare() -> None:
        calib.cli.open_progress = lambda: _Boundaries(number, log)

    return prepare


def at_change(number: int, folder: Path, log: Path | None = None) -> Prepare:
    """Die before this change of a file below the folder: opened to be written, renamed, removed."""
    seen = 0

    def is_change(event: str, arguments: tuple[object, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            return bool(writes) and isinstance(path, str | bytes) and _is_below(path, folder)
        return event in _CHANGES and _is_below(str(arguments[0]), folder)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if is_change(event, arguments):
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            if log:
                os.pwrite(handle, str(seen).encode(), 0)

    handle = os.open(log, os.O_WRONLY | os.O_CREAT) if log else -1

    def prepare() -> None:
        sys.addaudithook(hook)

    return prepare


def _is_below(path: str | bytes, folder: Path) -> bool:
    text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - never follows a link
    return text.startswith(f"{folder}{os.sep}")


def result_bytes(folder: Path, run: Path | None = None) -> dict[str, str]:
    """What must not depend on what happened before: digests of the files, and the verdict.

    Args:
        folder: the experiment's.
        run: the run's; the newest if none is given.
    """
    runs = sorted(p for p in (folder / "reports" / "small").iterdir() if not p.name.startswith("."))
    run = run or runs[-1]
    found = {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in _FILES
        for path in run.rglob(pattern)
    }
    result = json.loads((run / "result.json").read_text())
    return {**found, "verdict": json.dumps(result["verdict"], sort_keys=True)}


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders that are neither locks nor the store itself."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob(".*")
        if path.name != ".store" and path.suffix not in (".lock", ".journal")
    ]


def count_points(whole: Path, own: Path, *, changes: bool) -> int:
    """How many boundaries or changes a run has."""
    shutil.copytree(whole, own)
    log = own.with_suffix(".log")
    prepare = at_change(-1, own / "reports", log) if changes else at_boundary(-1, log)
    command(ARGUMENTS, own, prepare=prepare)
    shutil.rmtree(own)
    return int(log.read_text())


def killed_and_again(
    whole: Path, own: Path, number: int, wanted: dict[str, str], *, changes: bool
) -> str:
    """Kill a run there, run the same command, and say what is wrong with what came out."""
    shutil.copytree(whole, own)
    prepare = at_change(number, own / "reports") if changes else at_boundary(number)
    first = command(ARGUMENTS, own, prepare=prepare)
    second = command(ARGUMENTS, own)
    problem = second.problem
    if first.code != -signal.SIGKILL:
        problem = f"was not killed: exit code {first.code}"
    elif not problem and second.code != 0:
        problem = f"exit code {second.code}"
    elif not problem and result_bytes(own) != wanted:
        problem = "other results"
    elif not problem and (left := leftovers(own)):
        problem = f"left behind: {left[0]}"
    return problem
