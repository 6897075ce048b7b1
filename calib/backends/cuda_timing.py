"""Timing an engine with the device's own clock: a stream, two events, a CUDA graph.

What the engine is does not matter here: it takes whatever has the methods of TensorRT's execution
context that `Context` names.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from calib.backends.cuda_buffers import Buffers, IoTensors
from calib.backends.cuda_runtime import Cuda
from calib.errors import BackendError
from data_loaders.types import Array


class Context(Protocol):
    """What is asked of an engine; the names and meanings are TensorRT's."""

    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool:
        """Choose an input's shape; False if the engine does not take it."""
        ...

    def get_tensor_shape(self, name: str, /) -> Sequence[int]:
        """A tensor's shape for these inputs; -1 where only a run can tell."""
        ...

    def set_tensor_address(self, name: str, memory: int, /) -> bool:
        """Where on the device a tensor lies."""
        ...

    def execute_async_v3(self, stream_handle: int, /) -> bool:
        """Enqueue one run on a stream; False if it is refused."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """How an engine is timed; recorded with the figures."""

    cuda_graph: bool
    transfers: bool
    spin_wait: bool


class TimedEngine:
    """Runs one engine; `timed_infer` gives the milliseconds that the device says.

    Buffers, and the CUDA graph if one is asked for, are made for the shapes of the first inputs
    and made anew for others. `close` gives all back; the engine's own memory too, if nobody else
    holds its context.

    Args:
        context: the engine, ready to run.
        tensors: its inputs and outputs.
        cuda: CUDA's runtime.
        timing: how it is timed.
        reason: the engine's own words on why it refused; empty if it has none.

    Raises:
        BackendError: if CUDA gives no stream: no driver, no device.
    """

    def __init__(
        self,
        context: Context,
        tensors: IoTensors,
        cuda: Cuda,
        timing: Timing,
        reason: Callable[[], str] = str,
    ) -> None:
        self._context: Any = context
        self._tensors, self._cuda, self._timing, self._reason = tensors, cuda, timing, reason
        self._owned = ExitStack()
        self._owned.callback(delattr, self, "_context")
        with ExitStack() as undo:
            undo.callback(self._owned.close)
            names = cuda.names
            if timing.spin_wait:
                cuda.call("cudaSetDeviceFlags", names.cudaDeviceScheduleSpin)
            flags = names.cudaEventDefault if timing.spin_wait else names.cudaEventBlockingSync
            self._stream = self._own("cudaStreamDestroy", cuda.call("cudaStreamCreate"))
            self._begin, self._end = (
                self._own("cudaEventDestroy", cuda.call("cudaEventCreateWithFlags", flags))
                for _ in range(2)
            )
            undo.pop_all()
        self._buffers = Buffers(tensors, cuda, self._stream)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graph: Any = None

    @property
    def timing(self) -> Timing:
        """How it is timed in fact: an engine that cannot be captured runs without a graph."""
        return self._timing

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; array by output name.

        Raises:
            BackendError: if the engine refuses an input's name, dtype or shape, or to run; if the
                device has no memory left; if it fails.
        """
        self._prepare(inputs)
        self._buffers.copy_to_device()
        self._launch()
        self._buffers.copy_to_host()
        self._wait()
        return self._buffers.outputs()

    def timed_infer(self, inputs: Mapping[str, Array]) -> float:
        """Run one batch; milliseconds between two events on the stream.

        Raises:
            BackendError: as `infer`.
        """
        self._prepare(inputs)
        if not self._timing.transfers:
            self._buffers.copy_to_device()
        self._cuda.call("cudaEventRecord", self._begin, self._stream)
        if self._timing.transfers:
            self._buffers.copy_to_device()
        self._launch()
        if self._timing.transfers:
            self._buffers.copy_to_host()
        self._cuda.call("cudaEventRecord", self._end, self._stream)
        self._cuda.call("cudaEventSynchronize", self._end)
        return float(self._cuda.call("cudaEventElapsedTime", self._begin, self._end))

    def close(self) -> None:
        """Free what the device and the driver hold; once is enough."""
        try:
            self._release()
        finally:
            self._owned.close()

    def _own(self, destroy: str, thing: Any) -> Any:
        self._owned.callback(self._cuda.free, destroy, thing)
        return thing

    def _prepare(self, inputs: Mapping[str, Array]) -> None:
        """Buffers for these shapes, filled with these inputs; a graph where one is asked for."""
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        if shapes == self._shapes:
            self._buffers.fill(inputs)
            return
        self._release()
        try:
            self._choose(shapes)
            self._buffers.allocate(self._context.get_tensor_shape, self._context.set_tensor_address)
            # A first run outside the graph: engines set things up in it. It has its inputs, since
            # indices that merely happen to lie in memory would be read from anywhere.
            self._buffers.fill(inputs)
            self._buffers.copy_to_device()
            self._enqueue()
            self._wait()
            if self._timing.cuda_graph:
                self._graph = self._captured()
        except BaseException:
            self._release()
            raise
        self._shapes = shapes

    def _choose(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if set(shapes) != set(self._tensors.inputs):
            raise BackendError(
                "engine's inputs",
                "are others",
                got=", ".join(sorted(shapes)),
                expected=", ".join(sorted(self._tensors.inputs)),
            )
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(
                    f"engine's input {name}",
                    f"this shape is refused{self._why()}",
                    got=shape,
                    fix="Give backend.profiles a range that holds it, and build again.",
                )

    def _captured(self) -> Any:
        """One run as a CUDA graph; None where it cannot be captured, and then runs go without.

        So does trtexec. Loops and shapes that depend on values make the host wait for the device
        in the middle of a run, which no graph can hold.
        """
        cuda = self._cuda
        mode = cuda.names.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call("cudaStreamBeginCapture", self._stream, mode)
        try:
            self._enqueue()
            graph = cuda.call("cudaStreamEndCapture", self._stream)
        except BackendError:
            if cuda.lost:
                raise
            cuda.abandon_capture(self._stream)
            self._timing = replace(self._timing, cuda_graph=False)
            return None
        try:
            launchable = cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            cuda.free("cudaGraphDestroy", graph)
        cuda.call("cudaGraphUpload", launchable, self._stream)  # else the first launch does it
        return launchable

    def _launch(self) -> None:
        """One run, as it is timed."""
        if self._graph is not None:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError("engine", f"refused to run{self._why()}")

    def _wait(self) -> None:
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def _why(self) -> str:
        reason = self._reason()
        return f": {reason}" if reason else ""

    def _release(self) -> None:
        """Give back what was made for these shapes."""
        graph, self._graph, self._shapes = self._graph, None, {}
        try:
            if graph is not None:
                self._cuda.free("cudaGraphExecDestroy", graph)
        finally:
            self._buffers.release()
