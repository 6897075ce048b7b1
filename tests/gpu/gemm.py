"""An engine for the timing loop where TensorRT is not: one matrix product by CUDA's own library.

Nothing of it is made up: it enqueues cuBLAS's INT8 or FP16 kernels on the stream that it is given.
Its methods are those that the loop asks of TensorRT's execution context, and mean the same.
"""

import ctypes
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from calib.backends.cuda_buffers import IoTensors
from calib.backends.cuda_runtime import Cuda, load_cuda
from calib.backends.cuda_timing import TimedEngine, Timing
from calib.backends.gpu import find_gpu

GPU = find_gpu()
TRANSPOSED, AS_IT_IS = 1, 0  # cublasOperation_t
DEFAULT_ALGORITHM = -1  # cublasGemmAlgo_t
WORKSPACE_BYTES = 64 << 20
PLAIN = Timing(cuda_graph=False, transfers=False, spin_wait=True)


@dataclass(frozen=True)
class Precision:
    """What is multiplied and what comes out; CUDA's numbers of these types."""

    operands: Any
    result: Any
    operand_type: int
    result_type: int
    compute_type: int
    scalar: Any


# cudaDataType and cublasComputeType_t: int8 into int32, half into float.
INT8 = Precision(np.int8, np.int32, 3, 10, 72, ctypes.c_int32)
FP16 = Precision(np.float16, np.float32, 2, 0, 68, ctypes.c_float)


def cublas():
    """CUDA's library for matrix products, of NVIDIA's package or the system's toolkit."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)


def device() -> Cuda:
    """CUDA's runtime, where there is a device and cuBLAS; else the test is skipped."""
    if GPU.problem:
        pytest.skip(GPU.problem)
    pytest.importorskip("cuda.bindings.runtime")
    try:
        cublas()
    except Exception as error:
        pytest.skip(f"no cuBLAS: {error}")
    return load_cuda()


def say(text):
    """What was measured, for those who run with -s."""
    sys.stdout.write(f"\n{GPU.name}: {text}\n")


def int8(rng, *shape):
    return rng.integers(-128, 128, shape, dtype=np.int8)


class Gemm:
    """y[M, N] = x[M, K] w[N, K]^T, `repeats` times over."""

    def __init__(self, cuda: Cuda, precision: Precision, weights: np.ndarray, repeats: int = 1):
        self._cuda, self._precision, self._repeats = cuda, precision, repeats
        self._outputs, self._inputs = weights.shape
        self._library = cublas()
        self._rows = -1
        self._addresses: dict[str, int] = {}
        weights = np.ascontiguousarray(weights, dtype=precision.operands)
        self._weights = int(cuda.call("cudaMalloc", weights.nbytes))
        self._workspace = int(cuda.call("cudaMalloc", WORKSPACE_BYTES))
        kind = cuda.names.cudaMemcpyKind.cudaMemcpyHostToDevice
        cuda.call("cudaMemcpy", self._weights, weights.ctypes.data, weights.nbytes, kind)
        self._handle = ctypes.c_void_p()
        assert self._library.cublasCreate_v2(ctypes.byref(self._handle)) == 0

    @property
    def tensors(self) -> IoTensors:
        return IoTensors(
            {"x": np.dtype(self._precision.operands)}, {"y": np.dtype(self._precision.result)}
        )

    def set_input_shape(self, name, shape):
        if name != "x" or len(shape) != 2 or shape[1] != self._inputs:
            return False
        self._rows = shape[0]
        return True

    def get_tensor_shape(self, name):
        return (self._rows, self._inputs if name == "x" else self._outputs)

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        library, handle = self._library, self._handle
        if library.cublasSetStream_v2(handle, ctypes.c_void_p(stream_handle)) != 0:
            return False
        size = ctypes.c_size_t(WORKSPACE_BYTES)
        library.cublasSetWorkspace_v2(handle, ctypes.c_void_p(self._workspace), size)
        return all(self._multiply() == 0 for _ in range(self._repeats))

    def _multiply(self) -> int:
        """cuBLAS counts by columns, so it is asked for y^T = w x^T."""
        p, n, m, k = self._precision, self._outputs, self._rows, self._inputs
        one, zero = p.scalar(1), p.scalar(0)
        w, x, y = (ctypes.c_void_p(a) for a in (self._weights, *map(self._addresses.get, "xy")))
        return self._library.cublasGemmEx(
            *(self._handle, TRANSPOSED, AS_IT_IS, n, m, k, ctypes.byref(one)),
            *(w, p.operand_type, k, x, p.operand_type, k, ctypes.byref(zero)),
            *(y, p.result_type, n, p.compute_type, DEFAULT_ALGORITHM),
        )

    def close(self) -> None:
        self._library.cublasDestroy_v2(self._handle)
        self._cuda.free("cudaFree", self._workspace)
        self._cuda.free("cudaFree", self._weights)


class Synchronous(Gemm):
    """Waits for the device within a run, as engines with loops do: no graph can hold that."""

    def execute_async_v3(self, stream_handle):
        if not super().execute_async_v3(stream_handle):
            return False
        code, *_ = self._cuda.names.cudaStreamSynchronize(stream_handle)
        return int(code) == 0


class OnlyARunTells(Gemm):
    """Has an output whose first axis depends on values."""

    def get_tensor_shape(self, name):
        return (-1, self._outputs) if name == "y" else super().get_tensor_shape(name)


class Astray(Gemm):
    """Reads where nothing lies, in all runs but the first."""

    runs = 0

    def execute_async_v3(self, stream_handle):
        self.runs += 1
        if self.runs > 1:
            self._addresses["x"] = 1 << 20
        return super().execute_async_v3(stream_handle)


@contextmanager
def opened(precision, weights, timing=PLAIN, *, repeats=1, kind=Gemm, cuda=None):
    """The loop around such an engine."""
    cuda = cuda or load_cuda()
    gemm = kind(cuda, precision, weights, repeats)
    try:
        engine = TimedEngine(gemm, gemm.tensors, cuda, timing)
        try:
            yield engine
        finally:
            engine.close()
    finally:
        gemm.close()
