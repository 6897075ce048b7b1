"""Timing TensorRT engines with the device's own clock. Needs a GPU; not run so far.

The settings are trtexec's, and so are their defaults for the version at hand, so that figures can
be held against it: from TensorRT 11 on CUDA graphs and spin wait are on, transfers are left out.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.backends.tensorrt_specs import TimingSpec
from calib.backends.tensorrt_worker import make_logger
from calib.errors import BackendError
from data_loaders.types import Array

_NEW_DEFAULTS_FROM = 11


@dataclass(frozen=True, slots=True)
class Timing:
    """How an engine is timed; recorded with the figures."""

    cuda_graph: bool
    transfers: bool
    spin_wait: bool


def timing_from_spec(spec: TimingSpec, version: str) -> Timing:
    """The settings, with trtexec's defaults of that TensorRT version for what is not given."""
    new = int(version.split(".")[0]) >= _NEW_DEFAULTS_FROM
    return Timing(
        cuda_graph=new if spec.cuda_graph is None else spec.cuda_graph,
        transfers=not new if spec.transfers is None else spec.transfers,
        spin_wait=new if spec.spin_wait is None else spec.spin_wait,
    )


@contextmanager
def open_timed_engine(plan: Path, module: str, timing: Timing) -> Iterator["TimedEngine"]:
    """An engine with pinned buffers, one stream and two events.

    Raises:
        BackendError: if CUDA's runtime is not installed, or the engine cannot be loaded here.
    """
    try:
        trt = importlib.import_module(module)
        cuda = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendError(
            module, f"cannot be timed: {error}", fix="pip install cuda-bindings"
        ) from error
    timed = TimedEngine(trt, cuda, plan, timing)
    try:
        yield timed
    finally:
        timed.close()


class TimedEngine:
    """Runs one engine; `timed_infer` gives the milliseconds that the device says."""

    def __init__(self, trt: Any, cuda: Any, plan: Path, timing: Timing) -> None:
        self._trt, self._cuda, self._timing = trt, cuda, timing
        runtime = trt.Runtime(make_logger(trt))
        self._engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise BackendError(str(plan), "the engine cannot be loaded on this machine")
        self._context = self._engine.create_execution_context()
        if timing.spin_wait:
            self._call("cudaSetDeviceFlags", cuda.cudaDeviceScheduleSpin)
        flags = cuda.cudaEventDefault if timing.spin_wait else cuda.cudaEventBlockingSync
        self._stream = self._call("cudaStreamCreate")
        self._begin, self._end = (self._call("cudaEventCreateWithFlags", flags) for _ in "ab")
        self._host: dict[str, Array] = {}
        self._pinned: dict[str, int] = {}
        self._device: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graph: Any = None

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; array by output name."""
        self._prepare(inputs)
        self._copy(self._inputs(), to_device=True)
        self._enqueue()
        self._copy(self._outputs(), to_device=False)
        self._call("cudaStreamSynchronize", self._stream)
        return {name: self._host[name].copy() for name in self._outputs()}

    def timed_infer(self, inputs: Mapping[str, Array]) -> float:
        """Run one batch; milliseconds between two events on the stream."""
        self._prepare(inputs)
        if not self._timing.transfers:
            self._copy(self._inputs(), to_device=True)
        self._call("cudaEventRecord", self._begin, self._stream)
        if self._timing.transfers:
            self._copy(self._inputs(), to_device=True)
        if self._graph is not None:
            self._call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()
        if self._timing.transfers:
            self._copy(self._outputs(), to_device=False)
        self._call("cudaEventRecord", self._end, self._stream)
        self._call("cudaEventSynchronize", self._end)
        return float(self._call("cudaEventElapsedTime", self._begin, self._end))

    def layer_times_ms(self, inputs: Mapping[str, Array], runs: int) -> dict[str, float]:
        """Mean milliseconds of each engine layer over some runs; slower than without a profiler."""
        profiler = make_profiler(self._trt)
        self._prepare(inputs)
        self._copy(self._inputs(), to_device=True)
        self._context.profiler = profiler
        for _ in range(runs):
            self._enqueue()
            self._call("cudaStreamSynchronize", self._stream)
        return {name: sum(times) / runs for name, times in profiler.times.items()}

    def close(self) -> None:
        """Free what the device and the driver hold."""
        self._release()
        self._call("cudaEventDestroy", self._begin)
        self._call("cudaEventDestroy", self._end)
        self._call("cudaStreamDestroy", self._stream)

    def _prepare(self, inputs: Mapping[str, Array]) -> None:
        """Buffers for these shapes, filled with these inputs; a graph where one is asked for."""
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        if shapes != self._shapes:
            self._release()
            for name, shape in shapes.items():
                self._context.set_input_shape(name, shape)
            for name in self._names():
                self._allocate(name)
            self._shapes = shapes
            self._fill(inputs)
            self._enqueue()  # a first run outside the graph: TensorRT sets things up in it
            self._call("cudaStreamSynchronize", self._stream)
            if self._timing.cuda_graph:
                self._graph = self._captured()
        self._fill(inputs)

    def _fill(self, inputs: Mapping[str, Array]) -> None:
        for name, array in inputs.items():
            np.copyto(self._host[name], array)

    def _allocate(self, name: str) -> None:
        shape = tuple(self._context.get_tensor_shape(name))
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        size = max(int(np.prod(shape)) * dtype.itemsize, 1)
        pinned = int(self._call("cudaMallocHost", size))
        buffer = memoryview(_at(pinned, size))
        self._pinned[name] = pinned
        self._host[name] = np.frombuffer(buffer, dtype=dtype, count=int(np.prod(shape))).reshape(
            shape
        )
        self._device[name] = int(self._call("cudaMalloc", size))
        self._context.set_tensor_address(name, self._device[name])

    def _release(self) -> None:
        if self._graph is not None:
            self._call("cudaGraphExecDestroy", self._graph)
            self._graph = None
        for pointer in self._device.values():
            self._call("cudaFree", pointer)
        self._host.clear()
        for pointer in self._pinned.values():
            self._call("cudaFreeHost", pointer)
        self._device.clear()
        self._pinned.clear()

    def _captured(self) -> Any:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        self._enqueue()
        graph = self._call("cudaStreamEndCapture", self._stream)
        return self._call("cudaGraphInstantiate", graph, 0)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError("TensorRT engine", "refused to run")

    def _copy(self, names: list[str], *, to_device: bool) -> None:
        kinds = self._cuda.cudaMemcpyKind
        for name in names:
            size = self._host[name].nbytes
            device, pinned = self._device[name], self._pinned[name]
            if to_device:
                pair, kind = (device, pinned), kinds.cudaMemcpyHostToDevice
            else:
                pair, kind = (pinned, device), kinds.cudaMemcpyDeviceToHost
            self._call("cudaMemcpyAsync", *pair, size, kind, self._stream)

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]

    def _inputs(self) -> list[str]:
        return [n for n in self._names() if self._mode(n) == self._trt.TensorIOMode.INPUT]

    def _outputs(self) -> list[str]:
        return [n for n in self._names() if self._mode(n) == self._trt.TensorIOMode.OUTPUT]

    def _mode(self, name: str) -> Any:
        return self._engine.get_tensor_mode(name)

    def _call(self, function: str, *arguments: Any) -> Any:
        """A function of CUDA's runtime; its result, or its error as ours."""
        code, *result = getattr(self._cuda, function)(*arguments)
        if int(code) != 0:
            raise BackendError(f"CUDA {function}", f"failed: {code.name}")
        return result[0] if result else None


def make_profiler(trt: Any) -> Any:
    """Collects the milliseconds of every layer: list by layer name in `times`."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(ms)

    return Profiler()


def _at(address: int, size: int) -> Any:
    """The memory at an address, as something numpy can look at without copying."""
    import ctypes

    return (ctypes.c_char * size).from_address(address)
