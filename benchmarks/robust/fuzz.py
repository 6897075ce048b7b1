"""Cases by number, on all cores, each with a folder and a process of its own."""

import multiprocessing
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.robust.command import Outcome, command
from benchmarks.robust.configs import PWNED, bases, fuzzed
from benchmarks.robust.kills import leftovers
from benchmarks.robust.onnx_files import broken_model


@dataclass
class Count:
    """How the cases of one kind ended.

    Attributes:
        cases: how many there were.
        codes: number of cases by exit code, where there is one.
        bad: (case, what is wrong) of each that ended badly.
        slowest_seconds: of one case.
        raw_logs: cases with log lines of ONNX Runtime's own on the screen.
        skipped: cases that this machine cannot have.
    """

    cases: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    bad: list[tuple[str, str]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    raw_logs: int = 0
    skipped: int = 0

    def merge(self, other: "Count") -> None:
        """Count those of another process, too."""
        self.cases += other.cases
        self.codes += other.codes
        self.bad = sorted([*self.bad, *other.bad])
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.raw_logs += other.raw_logs
        self.skipped += other.skipped


Job = Callable[[Path], Count]
"""Break something in this folder, which is not there yet, and count how that ended."""


def text_job(whole: Path, kind: str, number: int) -> Job:
    """A mutated config or model, by its seed."""
    return partial(_mutated, whole, kind, number)


def _mutated(whole: Path, kind: str, number: int, own: Path) -> Count:
    shutil.copytree(whole, own)
    rng = random.Random(number)
    if kind == "config":
        (own / "fuzzed.yaml").write_bytes(fuzzed(rng.choice(bases(own)), rng))
        arguments = ["run", "fuzzed.yaml"]
    else:
        broken_model(own / "model.onnx", rng)
        arguments = ["check", "model.onnx"] if number % 5 == 4 else ["run", "config.yaml"]
    outcome = command(arguments, own)
    problem = outcome.problem or _traces(own)
    return _counted(f"{kind} {number}", problem, outcome)


def _traces(folder: Path) -> str:
    """What is there and should not be: a file that hidden code made, or a half-written run."""
    if list(folder.rglob(PWNED)):
        return "code of the input was run"
    left = leftovers(folder)
    return f"left behind: {left[0]}" if left else ""


def _counted(name: str, problem: str, outcome: Outcome) -> Count:
    last = (outcome.err.strip().splitlines() or [""])[-1][:200]
    return Count(
        cases=1,
        codes=Counter([outcome.code]),
        bad=[(name, f"{problem}: {last}")] if problem else [],
        slowest_seconds=outcome.seconds,
        raw_logs=int(outcome.has_raw_log),
    )


def scenario(name: str, look: Callable[[Path], str]) -> Job:
    """A case that says itself what is wrong."""
    return partial(_looked, name, look)


def _looked(name: str, look: Callable[[Path], str], own: Path) -> Count:
    problem = look(own)
    if problem == "skipped":
        return Count(cases=1, skipped=1)
    bad = [(name, problem)] if problem and problem != "room" else []
    return Count(cases=1, bad=bad)


def count(jobs: Sequence[Job]) -> Count:
    """Do all of these, as many at once as there are cores."""
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    processes, ends = [], []
    for share in (jobs[k::workers] for k in range(workers)):
        read, write = context.Pipe(duplex=False)
        processes.append(context.Process(target=_work, args=(share, write)))
        processes[-1].start()
        write.close()
        ends.append(read)
    whole = Count()
    for end in ends:
        whole.merge(end.recv())
    for process in processes:
        process.join()
    return whole


def _work(jobs: Iterable[Job], end: Connection) -> None:
    found = Count()
    for job in jobs:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            found.merge(job(Path(folder, "own")))
    end.send(found)
