"""An engine's inputs and outputs in memory: pinned on the host, and on the device."""

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from calib.backends.cuda_runtime import Cuda
from calib.errors import BackendError
from data_loaders.types import Array


@dataclass(frozen=True, slots=True)
class IoTensors:
    """The engine's inputs and outputs: dtype by name, in the engine's order."""

    inputs: Mapping[str, np.dtype[Any]]
    outputs: Mapping[str, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One tensor: an array over pinned memory, its address, and that on the device."""

    host: Array
    pinned: int
    device: int


class Buffers:
    """Memory for one set of shapes; copies go through one stream.

    Args:
        tensors: the engine's inputs and outputs.
        cuda: CUDA's runtime.
        stream: where copies are enqueued.
    """

    def __init__(self, tensors: IoTensors, cuda: Cuda, stream: Any) -> None:
        self._tensors, self._cuda, self._stream = tensors, cuda, stream
        self._buffers: dict[str, _Buffer] = {}
        self._memory = ExitStack()

    def allocate(
        self,
        shape_of: Callable[[str], Sequence[int]],
        take_address: Callable[[str, int], bool],
    ) -> None:
        """Memory for every input and output.

        Args:
            shape_of: a tensor's shape; -1 where only a run can tell.
            take_address: tells the engine where on the device a tensor lies; False if it refuses.

        Raises:
            BackendError: for a shape that is not known, an address that is refused, or where there
                is no memory left; what was made until then is freed by `release`.
        """
        for name, dtype in {**self._tensors.inputs, **self._tensors.outputs}.items():
            shape = tuple(shape_of(name))
            if any(size < 0 for size in shape):
                raise BackendError(
                    f"engine's tensor {name}",
                    "its shape depends on values, so no buffer can be made for it",
                    got=shape,
                )
            buffer = self._allocated(name, shape, dtype)
            if not take_address(name, buffer.device):
                raise BackendError(f"engine's tensor {name}", "its place in memory is refused")
            self._buffers[name] = buffer

    def fill(self, inputs: Mapping[str, Array]) -> None:
        """Put a batch into the pinned memory.

        Raises:
            BackendError: if a dtype is of another kind than the engine's.
        """
        for name, array in inputs.items():
            host = self._buffers[name].host
            if not np.can_cast(array.dtype, host.dtype, "same_kind"):
                raise BackendError(
                    f"engine's input {name}",
                    "has another dtype",
                    got=array.dtype,
                    expected=host.dtype,
                )
            np.copyto(host, array)

    def copy_to_device(self) -> None:
        """Enqueue the inputs' copies."""
        kind = self._cuda.names.cudaMemcpyKind.cudaMemcpyHostToDevice
        for buffer in self._of(self._tensors.inputs):
            self._copy(buffer.device, buffer.pinned, buffer.host.nbytes, kind)

    def copy_to_host(self) -> None:
        """Enqueue the outputs' copies."""
        kind = self._cuda.names.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for buffer in self._of(self._tensors.outputs):
            self._copy(buffer.pinned, buffer.device, buffer.host.nbytes, kind)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs that lie on the host; array by name."""
        return {name: self._buffers[name].host.copy() for name in self._tensors.outputs}

    def release(self) -> None:
        """Free all of it; arrays over it must not be touched again."""
        self._buffers.clear()
        self._memory.close()

    def _allocated(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Buffer:
        size = max(prod(shape) * dtype.itemsize, 1)
        about = f"{size:,} bytes of {name}"
        # The device's first: where it has no room, the host need not pin as much.
        device = int(self._cuda.call("cudaMalloc", size, about=about))
        self._memory.callback(self._cuda.free, "cudaFree", device)
        pinned = int(self._cuda.call("cudaMallocHost", size, about=about))
        self._memory.callback(self._cuda.free, "cudaFreeHost", pinned)
        memory = memoryview((ctypes.c_char * size).from_address(pinned))
        host = np.frombuffer(memory, dtype=dtype, count=prod(shape)).reshape(shape)
        return _Buffer(host, pinned, device)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._cuda.call("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def _of(self, names: Iterable[str]) -> list[_Buffer]:
        return [self._buffers[name] for name in names]
