"""Peak memory of an engine, taken in a process that does nothing else."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.backends.process import own_peak_bytes
from calib.errors import BackendError
from data_loaders.types import Array

_TIMEOUT_SECONDS = 600


def peak_memory_bytes(model_path: Path, spec: OnnxRuntimeSpec, inputs: Mapping[str, Array]) -> int:
    """Peak resident memory of a fresh process that loads the model and runs one batch, in bytes.

    The interpreter and the runtime's own libraries are part of it, the same for every engine.

    Raises:
        BackendError: if the process dies, with its last line.
    """
    with tempfile.NamedTemporaryFile(suffix=".npz") as batch:
        np.savez(batch, **inputs)  # type: ignore[arg-type]
        batch.flush()
        request = {
            "model": str(model_path),
            "spec": spec.model_dump(mode="json"),
            "inputs": batch.name,
        }
        process = subprocess.run(
            [sys.executable, "-m", "calib.backends.footprint"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or ["no message"]
        raise BackendError(str(model_path), f"the memory probe died: {lines[-1]}")
    return int(process.stdout)


def _probe() -> None:
    request = json.load(sys.stdin)
    with np.load(request["inputs"]) as batch:
        inputs = dict(batch)
    backend = OnnxRuntime(OnnxRuntimeSpec.model_validate(request["spec"]))
    with backend.engine(Path(request["model"])) as engine:
        engine.infer(inputs)
    sys.stdout.write(str(own_peak_bytes()))


if __name__ == "__main__":
    _probe()
