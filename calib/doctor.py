"""What this machine can do, and the one command that would help."""

import platform
from dataclasses import dataclass

from calib.backends.availability import Availability, availabilities
from calib.backends.gpu import Gpu, find_gpu
from calib.environment import package_versions


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One screen of facts.

    Attributes:
        python: its version.
        packages: version by name.
        gpu: the first GPU, or why there is none.
        backends: the preferred one first.
    """

    python: str
    packages: dict[str, str]
    gpu: Gpu
    backends: tuple[Availability, ...]

    @property
    def advice(self) -> str:
        """The next step; empty if everything can be used."""
        for backend in self.backends:
            if backend.can_run and backend.kind != "onnxruntime":
                return ""
        rtx = next(b for b in self.backends if b.kind == "tensorrt_rtx")
        if not rtx.can_build:
            return f"To build engines without a GPU: {rtx.fix or rtx.problem}"
        if self.gpu.problem:
            return "Engines can be built here; to run them, go to a machine with an NVIDIA GPU."
        return f"To run engines: {rtx.problem}"


def diagnose() -> Diagnosis:
    """Look around; nothing is changed."""
    return Diagnosis(platform.python_version(), package_versions(), find_gpu(), availabilities())
