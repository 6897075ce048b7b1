"""Whatever goes wrong: fuzzed configs, broken models, kills, full disks, hostile input, counted.

Each case is a command in a process of its own. It must end within a minute with a verdict, or with
one message and exit code 2: no traceback, no crash of a library, nothing half-written, nothing run
that came with the input. A run that was killed is followed by the same command, whose files must
be those of a run that nobody killed, byte by byte.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.robust import hostile, workspace  # noqa: E402
from benchmarks.robust.command import command  # noqa: E402
from benchmarks.robust.fuzz import Count, Job, count, scenario, text_job  # noqa: E402
from benchmarks.robust.kills import (  # noqa: E402
    ARGUMENTS,
    count_points,
    killed_and_again,
    result_bytes,
)
from benchmarks.robust.places import full_disk, two_at_once  # noqa: E402

_DISKS_KILOBYTES = (4, 16, 48, 96, 144, 192, 240, 288, 320, 352)


def jobs_of(options: argparse.Namespace, folder: Path) -> dict[str, list[Job]]:
    """All cases, by the name of their kind."""
    whole = workspace.make(folder / "whole")
    good = folder / "good"
    shutil.copytree(whole, good)
    outcome = command(ARGUMENTS, good)
    if outcome.code:
        raise RuntimeError(f"the experiment itself does not run: {outcome.err}")
    wanted = result_bytes(good)
    start = options.seed
    kinds: dict[str, list[Job]] = {
        "fuzzed configs": [text_job(whole, "config", start + n) for n in range(options.configs)],
        "broken models": [text_job(whole, "model", start + n) for n in range(options.models)],
    }
    for name, changes, most in (
        ("kills at a stage's end", False, options.kills),
        ("kills before a file changes", True, options.kills),
    ):
        points = count_points(whole, folder / "counted", changes=changes)
        chosen = list(_spread(points, most))
        kinds[f"{name}, of {points} places"] = [
            scenario(f"kill {n}", partial(_killed, whole, n, wanted, changes)) for n in chosen
        ]
    disks = list(_DISKS_KILOBYTES)[:: 1 if options.kills > 2 else 9]
    kinds["two runs at once"] = [
        scenario("two", lambda own: two_at_once(whole, own, wanted)) for _ in range(options.pairs)
    ]
    kinds["full disks"] = [
        scenario(f"disk of {size} kB", partial(_full, whole, size, wanted)) for size in disks
    ]
    for name, cases in hostile.CASES.items():
        kinds[f"hostile: {name}"] = [
            scenario(case.__name__, partial(_attacked, whole, case)) for case in cases
        ]
    return kinds


def _killed(whole: Path, number: int, wanted: dict[str, str], changes: bool, own: Path) -> str:
    return killed_and_again(whole, own, number, wanted, changes=changes)


def _full(whole: Path, size: int, wanted: dict[str, str], own: Path) -> str:
    return full_disk(whole, own, size, wanted)


def _attacked(whole: Path, case: Callable[[Path], str], own: Path) -> str:
    shutil.copytree(whole, own)
    return case(own)


def _spread(points: int, most: int) -> Iterator[int]:
    """At most so many of the places, the first and the last among them."""
    chosen = min(points, most)
    yield from sorted({round(k * (points - 1) / max(chosen - 1, 1)) for k in range(chosen)})


def row(name: str, found: Count, seconds: float) -> str:
    """A row of the table."""
    good = found.cases - len(found.bad) - found.skipped
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(found.codes.items()))
    skipped = f", {found.skipped} skipped" if found.skipped else ""
    return f"| {name} | {found.cases} | {good}{skipped} | {codes} | {seconds:.0f} |"


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=500)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--kills", type=int, default=16, help="places of each kind, at most")
    parser.add_argument("--pairs", type=int, default=3, help="times that two run at once")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--only", default="", help="kinds with this in their names")
    parser.add_argument("--quick", action="store_true", help="a small sample of each kind")
    parser.add_argument("--check", action="store_true", help="exit 1 when a case ends badly")
    options = parser.parse_args()
    if options.quick:
        options.configs, options.models, options.kills, options.pairs = 16, 10, 2, 1
    return options


def main() -> None:
    """Break, count, and judge."""
    options = arguments()
    figures: dict[str, int | float] = {"seed": options.seed}
    problems: list[str] = []
    print("| kind | cases | ended well | exit codes | s |\n|---|--:|--:|---|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, jobs in jobs_of(options, Path(folder)).items():
            if options.only not in name:
                continue
            begin = time.monotonic()
            found = count(jobs)
            print(row(name, found, time.monotonic() - begin), flush=True)
            short = name.partition(",")[0]
            figures[short] = found.cases
            figures[f"{short}: bad"] = len(found.bad)
            if found.raw_logs:
                figures[f"{short}: with a runtime's raw log"] = found.raw_logs
            problems += [f"{case}: {problem}" for case, problem in found.bad]
    for problem in problems:
        print(f"ended badly: {problem}")
    print(json.dumps(figures))
    sys.exit(1 if options.check and problems else 0)


if __name__ == "__main__":
    main()
