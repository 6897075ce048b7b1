"""Other calibration tools, each in a virtual environment of its own with pinned versions."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "peers"

REQUIREMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "onnxruntime": (("onnxruntime==1.32.0", "onnx==1.22.0", "numpy==2.4.6", "sympy==1.14.0"),),
    # ModelOpt's own requirements bring CUDA along; this is what its ONNX part imports.
    "modelopt": (
        (
            "onnx==1.21.0",
            "onnxruntime==1.24.4",
            "numpy==2.4.6",
            "onnx-graphsurgeon==0.6.1",
            "onnxconverter-common==1.16.0",
            "onnxscript==0.7.2",
            "onnxslim==0.1.98",
            "torch==2.13.0",
            "pynvml==13.0.1",
            "lief==1.0.0",
            "pulp==3.3.2",
            "pydantic==2.14.4",
            "PyYAML==6.0.3",
            "regex==2026.11.19",
            "rich==15.0.0",
            "safetensors==0.8.0",
            "scipy==1.17.1",
            "tqdm==4.70.1",
        ),
        ("--no-deps", "nvidia-modelopt==0.47.0"),
    ),
    "nncf": (("nncf==3.4.0", "onnx==1.22.0", "onnxruntime==1.32.0", "numpy==2.4.6"),),
}

METHODS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("MinMax", "Entropy", "Percentile", "MinMax-weighted", "Percentile-weighted"),
    "modelopt": ("entropy", "max"),
    "nncf": ("performance", "mixed", "accuracy_control"),
}
"""What `quantized_by` knows of each tool."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One quantization by another tool.

    Attributes:
        tool: one of METHODS.
        method: one of the tool's.
        model: the quantized model; None where the tool failed.
        seconds: of converting, calibrating and quantizing, imports left out; None where it failed.
        peak_bytes: largest resident memory of the process; None where it failed.
        error: the last line of what the tool said; None where it succeeded.
    """

    tool: str
    method: str
    model: Path | None
    seconds: float | None
    peak_bytes: int | None
    error: str | None


class PeerError(Exception):
    """A peer's process did not end well; its last words."""


def interpreter(peer: str) -> Path:
    """The peer's Python; its environment is made once."""
    folder = BUILD / peer
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = repr(REQUIREMENTS[peer])
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / f"{peer}.lock"):
        if not done.exists() or done.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            for packages in REQUIREMENTS[peer]:
                subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            done.write_text(wanted)
    return python


def quantized_by(
    tool: str,
    method: str,
    model: Path,
    calibration: Path,
    target: Path,
    batch_size: int = 16,
    kind: Literal["transformer", "conv"] = "transformer",
    timeout: float = 900.0,
) -> PeerResult:
    """Quantize with another tool, in a process of its own; whatever goes wrong there is a result.

    Args:
        tool: one of METHODS.
        method: one of the tool's.
        model: FP32; it is only read.
        calibration: .npz with an array for each of the model's inputs, samples on axis 0.
        target: the file to write.
        batch_size: samples at once, at most: the largest that divides their number. NNCF takes
            them one by one.
        kind: what NNCF is told of the model.
        timeout: seconds for the whole process.

    Raises:
        ValueError: if there is no such tool or method.
    """
    if method not in METHODS.get(tool, ()):
        raise ValueError(f"no such peer: {tool} {method}")
    python = interpreter(tool)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    script = [python, HERE / "quantize.py", tool, method]
    given = [*(p.resolve() for p in (model, calibration, target)), batch_size, kind]
    try:
        found = _run([*script, *given], timeout)
    except PeerError as error:
        return PeerResult(tool, method, None, None, None, str(error))
    return PeerResult(tool, method, target, found["seconds"], found["peak_bytes"], None)


def _run(command: list[object], timeout: float) -> dict[str, Any]:
    """What the process wrote to the file that its last argument names."""
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "out.json", Path(folder) / "said.txt"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [*map(str, command), str(out)],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PeerError(f"stopped after {timeout:g} s") from None
        finally:
            _end(process)
        if code < 0:
            raise PeerError(f"killed by signal {-code}; out of memory it is 9")
        if code or not out.exists():
            lines = said.read_text(errors="replace").strip().splitlines()
            raise PeerError(lines[-1].strip() if lines else f"exit status {code}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process where it still runs, and processes of its own with it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
