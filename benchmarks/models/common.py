"""What the builders share: a cached folder, npz files, FP32 outputs, PyTorch's environment."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from filelock import FileLock
from numpy.typing import NDArray
from onnx import version_converter

from calib.store import write_atomically
from examples.packages import BUILD as PROJECT_BUILD

BUILD = PROJECT_BUILD / "benchmarks"
OPSET = 17
BATCH = 32

_TORCH_REQUIREMENTS = ("torch==2.13.0", "transformers==5.24.0", "safetensors==0.8.0")

Arrays = dict[str, NDArray[np.generic]]


def built(name: str, code: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """The model's folder; made once for the same code.

    Args:
        name: of the folder under build/benchmarks.
        code: paths of the source files that the result depends on.
        make: fills the folder.
    """
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    parts = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in code]
    key, done = "\n".join(parts), folder / "made_from.txt"
    with FileLock(folder / ".lock"):
        if not done.is_file() or done.read_text() != key:
            done.unlink(missing_ok=True)
            make(folder)
            done.write_text(key)
    return folder


def save(
    folder: Path, model: onnx.ModelProto | None, calibration: Arrays, validation: Arrays
) -> None:
    """Write model.onnx (where given), calibration.npz and validation.npz."""
    if model is not None:
        onnx.checker.check_model(model)
        write_atomically(folder / "model.onnx", model.SerializeToString(deterministic=True))
    np.savez(folder / "calibration.npz", **calibration)
    np.savez(folder / "validation.npz", **validation)


def at_opset(model: onnx.ModelProto, shapes: dict[str, list[str | int]]) -> onnx.ModelProto:
    """The model at opset 17, with the shapes of its inputs and outputs stated."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        for size in shapes[value.name]:
            dims.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})
    del model.graph.value_info[:]
    return version_converter.convert_version(model, OPSET)


def outputs(model: Path, inputs: Arrays, batch: int = BATCH) -> NDArray[np.float32]:
    """The model's first output for every sample, by ONNX Runtime."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    first = session.get_outputs()[0].name
    names = [value.name for value in session.get_inputs()]
    count = len(inputs[names[0]])
    parts = [
        session.run([first], {name: inputs[name][start : start + batch] for name in names})[0]
        for start in range(0, count, batch)
    ]
    return np.concatenate(parts)


def print_accuracy(name: str, scores: NDArray[np.float32], label: NDArray[np.generic]) -> None:
    """FP32 accuracy of a classifier."""
    correct = int((scores.argmax(axis=-1) == label).sum())
    print(f"{name}: FP32 accuracy {correct / len(label):.2%} on {len(label)} samples")


def run_torch(script: Path, *arguments: str | Path) -> None:
    """Run a script in the environment that has PyTorch; the environment is made once."""
    folder = BUILD / "venv"
    folder.parent.mkdir(parents=True, exist_ok=True)
    done, wanted = folder / "installed.txt", repr(_TORCH_REQUIREMENTS)
    python = folder / "bin" / "python"
    with FileLock(folder.with_suffix(".lock")):
        if not done.is_file() or done.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            command = [python, "-m", "pip", "install", "--quiet", *_TORCH_REQUIREMENTS]
            subprocess.run(command, check=True)
            done.write_text(wanted)
    subprocess.run([python, script, *arguments], check=True)
