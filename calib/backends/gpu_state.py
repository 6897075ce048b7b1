"""Clocks, temperature and memory of the GPU, from its management library."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from calib.backends.gpu import find_gpu
from calib.record import Record

_CLOCKS_MOVED = 0.05
_SECONDS_BETWEEN = 0.5
_SLOWED = {
    "SwPowerCap": "its power limit",
    "SwThermalSlowdown": "its temperature",
    "HwThermalSlowdown": "its temperature",
    "HwPowerBrakeSlowdown": "the power supply",
}
"""NVML's names of what holds a clock down, nvmlClocksEventReason..., and ours."""


class GpuState(Record):
    """One reading."""

    sm_clock_mhz: int
    memory_clock_mhz: int
    temperature_celsius: int
    memory_used_bytes: int
    slowed_by: tuple[str, ...] = ()


class GpuWatch:
    """Readings of the GPU while it works.

    An idle GPU lowers its clock, so one that is read before the work begins says nothing of it.

    Args:
        wanted: whether to read at all.

    Attributes:
        readings: those so far.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self._next = 0.0 if wanted else math.inf
        self.readings: list[GpuState] = []

    def beside(self, on_run: Callable[[int], None]) -> Callable[[int], None]:
        """What is called after each round of runs, with a look at the GPU before it."""

        def look_first(count: int) -> None:
            self.look()
            on_run(count)

        return look_first

    def look(self) -> None:
        """Read, if the last reading is half a second old: a reading takes milliseconds."""
        if time.monotonic() < self._next:
            return
        state = read_gpu_state()
        if state is not None:
            self.readings.append(state)
        self._next = time.monotonic() + _SECONDS_BETWEEN


def read_gpu_state() -> GpuState | None:
    """A reading of the GPU that CUDA takes first; None without nvidia-ml-py, a driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    address = find_gpu().pci_bus_id
    if not address:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        # By its address: CUDA's order, and CUDA_VISIBLE_DEVICES, are unknown to NVML.
        gpu = pynvml.nvmlDeviceGetHandleByPciBusId(address)
        return GpuState(
            sm_clock_mhz=pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            temperature_celsius=pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            memory_used_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
            slowed_by=_slowed_by(pynvml, gpu),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _slowed_by(pynvml: Any, gpu: Any) -> tuple[str, ...]:
    try:
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
    except pynvml.NVMLError:  # not every GPU tells
        return ()
    found = (
        text
        for name, text in _SLOWED.items()
        if reasons & getattr(pynvml, f"nvmlClocksThrottleReason{name}")
    )
    return tuple(dict.fromkeys(found))


def clock_warning(readings: Sequence[GpuState]) -> str:
    """A sentence if the clock moved by more than 5 % while engines were timed; else empty."""
    clocks = [state.sm_clock_mhz for state in readings]
    if not clocks or max(clocks) - min(clocks) <= _CLOCKS_MOVED * max(clocks):
        return ""
    causes = sorted({cause for state in readings for cause in state.slowed_by})
    why = f", held down by {' and '.join(causes)}," if causes else ""
    return (
        f"the GPU's clock moved between {min(clocks)} and {max(clocks)} MHz{why} while "
        "engines were timed: lock it (nvidia-smi -lgc) and measure again"
    )
