"""Fuzzing: cases by number, on all cores, each in a process of its own."""

import multiprocessing
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.robust import workspace
from benchmarks.robust.command import Outcome, command
from benchmarks.robust.configs import PWNED, bases, fuzzed
from benchmarks.robust.onnx_files import broken_model

Case = Callable[[Path, int], list[str]]
"""Break the workspace in this folder, by this number; the command's arguments."""


@dataclass
class Count:
    """How the cases of one kind ended.

    Attributes:
        cases: how many there were.
        codes: number of cases by exit code.
        bad: (number, what is wrong, the last of standard error) of each that ended badly.
        slowest_seconds: of one case.
        raw_logs: cases with log lines of ONNX Runtime's own on the screen.
    """

    cases: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    bad: list[tuple[int, str, str]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    raw_logs: int = 0

    def add(self, number: int, problem: str, outcome: Outcome) -> None:
        """Count a case."""
        self.cases += 1
        self.codes[outcome.code] += 1
        self.slowest_seconds = max(self.slowest_seconds, outcome.seconds)
        self.raw_logs += outcome.has_raw_log
        if problem:
            self.bad.append((number, problem, outcome.err[-2000:]))

    def merge(self, other: "Count") -> None:
        """Count those of another process, too."""
        self.cases += other.cases
        self.codes += other.codes
        self.bad = sorted([*self.bad, *other.bad])
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.raw_logs += other.raw_logs


def fuzzed_config(folder: Path, number: int) -> list[str]:
    """A config that is almost right."""
    rng = random.Random(number)
    known = bases(folder)
    (folder / "fuzzed.yaml").write_bytes(fuzzed(rng.choice(known), rng))
    return ["run", "fuzzed.yaml"]


def fuzzed_model(folder: Path, number: int) -> list[str]:
    """A model that is broken."""
    rng = random.Random(number)
    broken_model(folder / "model.onnx", rng)
    return ["check", "model.onnx"] if number % 5 == 4 else ["run", "config.yaml"]


def count(case: Case, numbers: range) -> Count:
    """Run the cases of these numbers, as many at once as there are cores."""
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    shares = [numbers[k::workers] for k in range(workers)]
    ends = [context.Pipe(duplex=False) for _ in shares]
    processes = [
        context.Process(target=_worker, args=(case, share, end[1]))
        for share, end in zip(shares, ends, strict=True)
    ]
    for process in processes:
        process.start()
    whole = Count()
    for (read, write), _ in zip(ends, processes, strict=True):
        write.close()
        whole.merge(read.recv())
    for process in processes:
        process.join()
    return whole


def _worker(case: Case, numbers: range, end: object) -> None:
    found = Count()
    with tempfile.TemporaryDirectory() as folder:
        whole = workspace.make(Path(folder, "whole"))
        for number in numbers:
            own = Path(folder, "own")
            shutil.copytree(whole, own)
            outcome = command(case(own, number), own)
            found.add(number, outcome.problem or _traces(own), outcome)
            shutil.rmtree(own, ignore_errors=True)
    end.send(found)  # type: ignore[attr-defined]


def _traces(folder: Path) -> str:
    """What is there and should not be: a file that hidden code made, or a half-written run."""
    if list(folder.rglob(PWNED)):
        return "code of the input was run"
    return next((f"left behind: {p.name}" for p in _hidden(folder)), "")


def _hidden(folder: Path) -> Iterator[Path]:
    for path in folder.rglob(".*"):
        if path.name != ".store" and path.suffix not in (".lock", ".journal"):
            yield path
