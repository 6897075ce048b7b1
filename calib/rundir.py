"""The directory of one run: it appears whole or not at all."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import StoreError
from calib.leftovers import sweep
from calib.results import RunResult
from calib.store import folder_to_fill

RUN_IDS = r"\d{8}-\d{6}-\d{3}-[0-9a-f]{6}"
"""Regular expression of a run's id, which begins with the time it started, in UTC."""


@contextmanager
def run_directory(parent: Path, run_id: str) -> Iterator[Path]:
    """A folder to fill; on leaving without an error it becomes `parent/run_id`.

    Raises:
        StoreError: if it cannot be written.
    """
    sweep(parent, RUN_IDS)
    with folder_to_fill(parent, run_id) as partial:
        yield partial
        partial.chmod(0o755)
        partial.replace(parent / run_id)


def load_result(run: Path) -> RunResult:
    """Read a finished run.

    Args:
        run: its directory, or its result.json.

    Raises:
        StoreError: if there is no result, or it is damaged or of another version.
    """
    path = run / "result.json" if run.is_dir() else run
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            str(run),
            "holds no result.json",
            fix="Give the directory that `calib run` printed: reports/<experiment>/<run id>.",
        ) from error
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise StoreError(str(path), f"is no result that this version reads: {first}") from error


def load_results(folder: Path) -> tuple[list[RunResult], list[str]]:
    """The finished runs below an experiment's folder, and the names of those that cannot be read.

    Raises:
        StoreError: if there is none that can be read.
    """
    found: list[RunResult] = []
    unreadable: list[str] = []
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.is_dir() and re.fullmatch(RUN_IDS, path.name):
            try:
                found.append(load_result(path))
            except StoreError:
                unreadable.append(path.name)
    if not found:
        raise StoreError(
            str(folder),
            "holds no finished run",
            got=f"{len(unreadable)} that cannot be read" if unreadable else None,
            fix="Give an experiment's name, or the folder that `calib run` wrote runs to.",
        )
    return found, unreadable
