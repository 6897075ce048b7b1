"""Building an engine from our side: start the worker, watch it, and say clearly what went wrong."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib.errors import BackendError

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What the worker is asked for; every field is plain JSON.

    Attributes:
        module: tensorrt or tensorrt_rtx.
        model: path of the ONNX file.
        profile: input name: (minimum, optimum, maximum) shape.
        compute_capability: target of TensorRT-RTX, e.g. 8.9; None for the GPU that is there.
        strong: strongly typed network; ignored where it is the only kind or unknown.
        precisions: int8, fp16: builder flags where the network is weakly typed.
        calibration_cache: path of a native calibration cache; TensorRT 8.6 to 10.
        calibration_batches: folder of npz files for a native calibrator; TensorRT 8.6 to 10.
        calibration_algorithm: see `tensorrt_calibrator.ALGORITHMS`.
        calibration_batch_size: samples a batch.
        calibration_samples: samples that the calibrator must have seen.
    """

    module: str
    model: str
    profile: Profile
    compute_capability: str | None = None
    strong: bool = True
    precisions: tuple[str, ...] = ()
    calibration_cache: str | None = None
    calibration_batches: str | None = None
    calibration_algorithm: str = "entropy"
    calibration_batch_size: int = 1
    calibration_samples: int = 0
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    timing_cache: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def build_engine(
    request: BuildRequest, folder: Path, timeout_seconds: float, on_step: Callable[[int], None]
) -> dict[str, Any]:
    """Build in a process of its own; `engine.plan`, `layers.txt`, `build.log` appear in the folder.

    Args:
        request: what to build.
        folder: an existing, empty folder.
        timeout_seconds: the build is stopped after this long.
        on_step: called with 1 for each step of progress.

    Returns:
        the worker's facts.

    Raises:
        BackendError: if the build fails, crashes or takes too long, with the builder's own words.
    """
    path = folder / "request.json"
    path.write_text(json.dumps(asdict(request)), encoding="utf-8")
    errors = (folder / "stderr.txt").open("w+", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "calib.backends.tensorrt_worker", str(path)],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    expired = threading.Event()
    watchdog = threading.Timer(timeout_seconds, _expire, (process, expired))
    watchdog.start()
    try:
        for line in process.stdout or ():
            on_step(int('"step"' in line))
        code = process.wait()
    finally:
        # Also on Ctrl-C: the builder must not go on by itself.
        watchdog.cancel()
        process.kill()
        process.wait()
        errors.close()
    return _facts(request, folder, code, timeout_seconds if expired.is_set() else None)


def _expire(process: "subprocess.Popen[str]", expired: threading.Event) -> None:
    expired.set()
    process.kill()


def _facts(
    request: BuildRequest, folder: Path, code: int, expired_seconds: float | None
) -> dict[str, Any]:
    name = f"{request.module} build of {request.model}"
    if expired_seconds is not None:
        raise BackendError(
            name,
            f"took more than {expired_seconds:g} s and was stopped",
            fix="Raise backend.build_timeout_seconds, or lower backend.optimization_level.",
        )
    result_path = folder / "result.json"
    if code != 0 or not result_path.is_file():
        last = (folder / "stderr.txt").read_text(encoding="utf-8").strip().splitlines()[-3:]
        raise BackendError(
            name, f"the builder's process ended with code {code}", got=" | ".join(last) or None
        )
    result: dict[str, Any] = json.loads(result_path.read_text(encoding="utf-8"))
    if "error" in result:
        raise BackendError(name, f"failed: {result['error']}")
    return result
