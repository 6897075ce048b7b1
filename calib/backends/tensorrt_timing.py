"""Timing TensorRT engines: what is TensorRT's of it. Needs a GPU; not run so far.

The settings are trtexec's, and so are their defaults for the version at hand, so that figures can
be held against it: from TensorRT 11 on CUDA graphs and spin wait are on, transfers are left out.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from calib.backends.cuda_buffers import IoTensors
from calib.backends.cuda_runtime import load_cuda
from calib.backends.cuda_timing import TimedEngine, Timing
from calib.backends.tensorrt_specs import TimingSpec
from calib.backends.tensorrt_worker import last_errors, make_logger
from calib.errors import BackendError
from data_loaders.types import Array

_NEW_DEFAULTS_FROM = 11


def timing_from_spec(spec: TimingSpec, version: str) -> Timing:
    """The settings, with trtexec's defaults of that TensorRT version for what is not given."""
    new = int(version.split(".")[0]) >= _NEW_DEFAULTS_FROM
    return Timing(
        cuda_graph=new if spec.cuda_graph is None else spec.cuda_graph,
        transfers=not new if spec.transfers is None else spec.transfers,
        spin_wait=new if spec.spin_wait is None else spec.spin_wait,
    )


@contextmanager
def open_timed_engine(plan: Path, module: str, timing: Timing) -> Iterator["TensorRtEngine"]:
    """An engine file, ready to be run and timed.

    Raises:
        BackendError: if CUDA's runtime is not installed, or the engine cannot be loaded here.
    """
    try:
        trt = importlib.import_module(module)
    except ImportError as error:
        raise BackendError(module, f"engines cannot be timed: {error}") from error
    timed = TensorRtEngine(trt, plan, timing)
    try:
        yield timed
    finally:
        timed.close()


class TensorRtEngine(TimedEngine):
    """An engine of TensorRT's; see TimedEngine.

    Args:
        trt: the module tensorrt or tensorrt_rtx.
        plan: the engine's file.
        timing: how it is timed.

    Raises:
        BackendError: if CUDA's runtime is not installed, or the engine cannot be loaded here.
    """

    def __init__(self, trt: Any, plan: Path, timing: Timing) -> None:
        self._trt = trt
        cuda, logger = load_cuda(), make_logger(trt)
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            reason = last_errors(logger) or "it says no more"
            raise BackendError(str(plan), f"the engine cannot be loaded on this machine: {reason}")
        super().__init__(
            context, io_tensors(trt, engine), cuda, timing, lambda: last_errors(logger)
        )

    def layer_times_ms(self, inputs: Mapping[str, Array], runs: int) -> dict[str, float]:
        """Mean milliseconds of each engine layer over some runs; slower than without a profiler."""
        profiler = make_profiler(self._trt)
        self._prepare(inputs)
        self._buffers.copy_to_device()
        self._context.profiler = profiler
        for _ in range(runs):
            self._enqueue()
            self._wait()
        return {name: sum(times) / runs for name, times in profiler.times.items()}


def io_tensors(trt: Any, engine: Any) -> IoTensors:
    """Names and dtypes of what goes into an engine and comes out.

    Raises:
        BackendError: for a dtype that numpy does not have.
    """
    inputs: dict[str, np.dtype[Any]] = {}
    outputs: dict[str, np.dtype[Any]] = {}
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        inward = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        dtype = engine.get_tensor_dtype(name)
        try:
            (inputs if inward else outputs)[name] = np.dtype(trt.nptype(dtype))
        except TypeError as error:
            raise BackendError(
                f"engine's tensor {name}",
                "numpy has no such dtype, so it cannot be filled or read",
                got=dtype,
                fix="Let the model's inputs and outputs be FP32, FP16, INT8, INT32, INT64 or BOOL.",
            ) from error
    return IoTensors(inputs, outputs)


def make_profiler(trt: Any) -> Any:
    """Collects the milliseconds of every layer: list by layer name in `times`."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(ms)

    return Profiler()
