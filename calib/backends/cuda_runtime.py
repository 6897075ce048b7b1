"""CUDA's runtime: its calls, and its errors as ours."""

import importlib
from typing import Any

from calib.errors import BackendError

_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
LOST = frozenset(
    "cudaError" + name
    for name in (
        "Assert",
        "ContextIsDestroyed",
        "Contained",
        "ECCUncorrectable",
        "ExternalDevice",
        "HardwareStackError",
        "IllegalAddress",
        "IllegalInstruction",
        "InvalidAddressSpace",
        "InvalidPc",
        "LaunchFailure",
        "LaunchTimeout",
        "MisalignedAddress",
        "NvlinkUncorrectable",
        "TensorMemoryLeak",
        "Unknown",
    )
)
"""After these every later call of the process fails, whatever it asks for."""


def load_cuda() -> "Cuda":
    """CUDA's runtime through NVIDIA's own bindings.

    Raises:
        BackendError: if they are not installed.
    """
    try:
        return Cuda(importlib.import_module("cuda.bindings.runtime"))
    except ImportError as error:
        raise BackendError(
            "CUDA", f"engines cannot be timed: {error}", fix="pip install cuda-bindings"
        ) from error


class Cuda:
    """Calls functions of CUDA's runtime.

    Attributes:
        names: the module; for its constants.
        lost: whether the device refuses everything from here on in this process.
    """

    def __init__(self, module: Any) -> None:
        self.names = module
        self.lost = False

    def call(self, function: str, *arguments: Any, about: str = "") -> Any:
        """What a function returns: nothing, one thing, or a tuple.

        Args:
            function: its name.
            arguments: as CUDA's reference has them, without those it returns through.
            about: what it is called for; shown if it fails.

        Raises:
            BackendError: if it returns an error.
        """
        try:
            code, *found = getattr(self.names, function)(*arguments)
        except RuntimeError as error:  # the bindings do not find the driver's library
            raise BackendError(f"CUDA {function}", f"cannot be called: {error}") from error
        if int(code) != 0:
            raise self._error(function, code, about)
        if len(found) > 1:
            return tuple(found)
        return found[0] if found else None

    def free(self, function: str, *arguments: Any) -> None:
        """The same for functions that give something back.

        On a lost device they can only fail, and that would hide the error that lost it.
        """
        try:
            self.call(function, *arguments)
        except BackendError:
            if not self.lost:
                raise

    def abandon_capture(self, stream: Any) -> None:
        """End a capture that went wrong, if that has not ended it yet."""
        code, graph = self.names.cudaStreamEndCapture(stream)
        if int(code) == 0:
            self.free("cudaGraphDestroy", graph)
        self.names.cudaGetLastError()

    def _error(self, function: str, code: Any, about: str) -> BackendError:
        self.names.cudaGetLastError()  # else whoever asks next takes it for an error of his own
        self.lost = self.lost or code.name in LOST
        _, text = self.names.cudaGetErrorString(code)
        got = f"{code.name}, {text.decode()}" + (f", for {about}" if about else "")
        if code.name == _OUT_OF_MEMORY:
            _, free, total = self.names.cudaMemGetInfo()
            return BackendError(
                f"CUDA {function}",
                "the device is out of memory",
                got=got,
                expected=f"at most {free:,} bytes, free of {total:,}",
                fix="Take a smaller batch, or free the device from other processes.",
            )
        fix = "The device is lost to this process; run again." if self.lost else None
        return BackendError(f"CUDA {function}", "failed", got=got, fix=fix)
