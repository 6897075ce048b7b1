"""Clocks, temperature and memory of the GPU, from its management library."""

from calib.record import Record

_CLOCKS_MOVED = 0.05


class GpuState(Record):
    """One reading."""

    sm_clock_mhz: int
    memory_clock_mhz: int
    temperature_celsius: int
    memory_used_bytes: int


def read_gpu_state() -> GpuState | None:
    """A reading of the first GPU; None without nvidia-ml-py, a driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        return GpuState(
            sm_clock_mhz=pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            temperature_celsius=pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            memory_used_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def clock_warning(before: GpuState | None, after: GpuState | None) -> str:
    """A sentence if the clock moved by more than 5 % while engines were timed; else empty."""
    if before is None or after is None or before.sm_clock_mhz == 0:
        return ""
    moved = abs(after.sm_clock_mhz - before.sm_clock_mhz) / before.sm_clock_mhz
    if moved <= _CLOCKS_MOVED:
        return ""
    return (
        f"the GPU's clock moved from {before.sm_clock_mhz} to {after.sm_clock_mhz} MHz while "
        "engines were timed: lock it (nvidia-smi -lgc) and measure again"
    )
