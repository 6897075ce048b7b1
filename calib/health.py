"""Whether calib could work here and now: for containers, schedulers and scripts, in a moment."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.errors import BackendError
from calib.graph.smallest import INPUT, OUTPUT, WEIGHTS, smallest_model
from data_loaders.memory import available_bytes
from data_loaders.printable import printable

DISK_MB_MIN = 1024
"""Statistics, candidates and a report of a small model."""
MEMORY_MB_MIN = 256
"""The interpreter with everything loaded takes about as much."""
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: of it.
        ok: whether it went well.
        found: what was seen, or what went wrong.
    """

    name: str
    ok: bool
    found: str


def health(store: Path) -> tuple[Check, ...]:
    """Try what every run needs. Nothing is left behind, no GPU is asked.

    Args:
        store: the stage cache, as `output.store` names it; it need not be there yet.
    """
    place = _nearest(store)
    return (_backend(), _writable(store, place), _disk(place), _memory())


def _backend() -> Check:
    """Run a model of one integer operator with the backend that runs everywhere."""
    values = np.array([[0, 1, 2, 255]], np.uint8)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "smallest.onnx"
            path.write_bytes(smallest_model())
            with OnnxRuntime(OnnxRuntimeSpec(threads=1)).engine(path) as engine:
                got = engine.infer({INPUT: values})[OUTPUT].copy()
    except OSError as error:
        return Check("backend", ok=False, found=f"no place for temporary files: {_said(error)}")
    except BackendError as error:
        return Check("backend", ok=False, found=str(error))
    expected = values.astype(np.int32) @ WEIGHTS.astype(np.int32)
    if not np.array_equal(got, expected):
        return Check("backend", ok=False, found=f"onnxruntime computes {got}, not {expected}")
    return Check("backend", ok=True, found="onnxruntime loads and runs a model of one operator")


def _writable(store: Path, place: Path) -> Check:
    """Write a file where the store is, or will be, and remove it."""
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".health.") as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return Check("store", ok=False, found=f"{printable(str(store))}: {_said(error)}")
    return Check("store", ok=True, found=f"{printable(str(store))} can be written")


def _disk(place: Path) -> Check:
    free = shutil.disk_usage(place).free // _MB
    return Check("disk", free >= DISK_MB_MIN, f"{free:,} MB free, at least {DISK_MB_MIN:,} wanted")


def _memory() -> Check:
    free = available_bytes() // _MB
    found = f"{free:,} MB available, at least {MEMORY_MB_MIN:,} wanted"
    return Check("memory", free >= MEMORY_MB_MIN, found)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())


def _said(error: OSError) -> str:
    return error.strerror or str(error)
