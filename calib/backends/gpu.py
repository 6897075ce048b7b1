"""The GPU and its driver, asked without any CUDA toolkit."""

import ctypes
from dataclasses import dataclass

_NAME_BYTES = 100
_ADDRESS_BYTES = 32
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR in cuda.h."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU, or why there is none.

    Attributes:
        name: as the driver says; empty without a GPU.
        compute_capability: e.g. 8.9; empty without a GPU.
        driver_cuda: newest CUDA version that the driver serves, e.g. 13.0; empty without a driver.
        problem: empty if a GPU can be used.
        pci_bus_id: where it sits, e.g. 0000:65:00.0; empty without a GPU.
    """

    name: str = ""
    compute_capability: str = ""
    driver_cuda: str = ""
    problem: str = ""
    pci_bus_id: str = ""


def find_gpu() -> Gpu:
    """Ask the driver; no context is made, so nothing is held afterwards."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Gpu(problem="no NVIDIA driver (libcuda.so.1 is not there)")
    code = cuda.cuInit(0)
    if code != 0:
        return Gpu(problem=f"the NVIDIA driver does not start (cuInit returned {code})")
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    served = f"{version.value // 1000}.{version.value % 1000 // 10}"
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return Gpu(driver_cuda=served, problem="the driver sees no GPU")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGetName(name, _NAME_BYTES, 0)
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, 0)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, 0)
    address = ctypes.create_string_buffer(_ADDRESS_BYTES)
    cuda.cuDeviceGetPCIBusId(address, _ADDRESS_BYTES, 0)
    return Gpu(
        name.value.decode(),
        f"{major.value}.{minor.value}",
        served,
        pci_bus_id=address.value.decode(),
    )
