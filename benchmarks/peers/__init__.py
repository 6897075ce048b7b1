"""Other calibration tools, each in a virtual environment of its own with pinned versions."""

import subprocess
import sys
from pathlib import Path

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
}


def interpreter(peer: str) -> Path:
    """The peer's Python; its environment is made once."""
    folder = BUILD / peer
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = repr(REQUIREMENTS[peer])
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in REQUIREMENTS[peer]:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.write_text(wanted)
    return python
