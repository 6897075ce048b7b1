"""Where results are kept: two runs at once on one store, and a disk that is full."""

import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.robust.command import Outcome, command
from benchmarks.robust.kills import ARGUMENTS, leftovers, result_bytes


def two_at_once(whole: Path, own: Path, wanted: dict[str, str]) -> str:
    """Two runs of one experiment, started together: what is wrong with either."""
    shutil.copytree(whole, own)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        outcomes: list[Outcome] = pool.starmap(command, [(ARGUMENTS, own)] * 2)
    runs = [p for p in (own / "reports" / "small").iterdir() if not p.name.startswith(".")]
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    if problems:
        return problems[0]
    if any(outcome.code for outcome in outcomes) or len(runs) != 2:
        return f"exit codes {[outcome.code for outcome in outcomes]}, {len(runs)} runs"
    for run in runs:
        if result_bytes(own, run) != wanted:
            return "other results"
    return f"left behind: {leftovers(own)[0]}" if leftovers(own) else ""


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A tmpfs at this folder; False where this user may not mount one."""
    folder.mkdir(parents=True)
    size = f"size={kilobytes}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(whole: Path, own: Path, kilobytes: int, wanted: dict[str, str]) -> str:
    """A run whose reports go to a disk of this size, and the same when it has grown.

    Returns:
        What is wrong; "skipped" where no disk can be mounted, "room" where the run fits.
    """
    shutil.copytree(whole, own)
    disk = own / "reports"
    with small_disk(disk, kilobytes) as mounted:
        if not mounted:
            return "skipped"
        first = command(ARGUMENTS, own)
        if first.code == 0:
            return "room"
        if first.problem or first.code != 2:
            return first.problem or f"exit code {first.code}"
        if "cannot write here" not in first.err:
            return f"says something else: {first.err[:300]}"
        if [p for p in disk.glob("small/*") if not p.name.startswith(".")]:
            return "a half-written run"
        grow = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(grow, check=True)
        second = command(ARGUMENTS, own)
        if second.problem or second.code:
            return second.problem or f"afterwards exit code {second.code}"
        if result_bytes(own) != wanted:
            return "afterwards other results"
        return f"left behind: {leftovers(own)[0]}" if leftovers(own) else ""
