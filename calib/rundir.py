"""The directory of one run: it appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import StoreError
from calib.results import RunResult


@contextmanager
def run_directory(parent: Path, run_id: str) -> Iterator[Path]:
    """A folder to fill; on leaving without an error it becomes `parent/run_id`.

    Raises:
        StoreError: if it cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=parent, prefix=f".{run_id}."))
    except OSError as error:
        raise StoreError(
            str(parent),
            f"cannot write here: {error.strerror or error}",
            fix="Choose another directory with --set output.reports=…",
        ) from error
    try:
        yield partial
        partial.chmod(0o755)
        partial.replace(parent / run_id)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """Put a file of the store into the run: a hard link where the disk allows, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
