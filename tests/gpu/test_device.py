"""What else of calib touches a device: NVML's readings, and batches for native calibrators."""

import time

import numpy as np
import pytest
from gpu.gemm import GPU, device, int8, say

from calib.backends.gpu_state import read_gpu_state
from calib.backends.tensorrt_calibrator import device_batches

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def cuda():
    """CUDA's runtime, where there is a device."""
    return device()


def test_the_management_library_sees_the_gpu_that_cuda_takes(cuda):
    pytest.importorskip("pynvml")
    idle = read_gpu_state()
    size = 1 << 30
    address = cuda.call("cudaMalloc", size)
    begin = time.perf_counter()
    full = read_gpu_state()
    reading_ms = (time.perf_counter() - begin) * 1e3
    cuda.call("cudaFree", address)
    assert full.memory_used_bytes - idle.memory_used_bytes >= size // 2
    assert 0 < full.sm_clock_mhz < 5000
    assert full.memory_clock_mhz > 0
    assert 0 < full.temperature_celsius < 120
    names = cuda.names.cudaDeviceAttr
    major = cuda.call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMajor, 0)
    minor = cuda.call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMinor, 0)
    assert GPU.compute_capability == f"{major}.{minor}"
    address = cuda.call("cudaDeviceGetPCIBusId", 32, 0)
    assert address.decode().partition("\0")[0].lower() == GPU.pci_bus_id.lower()
    version = cuda.call("cudaDriverGetVersion")
    assert GPU.driver_cuda == f"{version // 1000}.{version % 1000 // 10}"
    say(
        f"SM {GPU.compute_capability}, driver serves CUDA {GPU.driver_cuda}; "
        f"{full} read in {reading_ms:.1f} ms"
    )


def test_batches_for_native_calibrators_lie_on_the_device(tmp_path, cuda):
    rng = np.random.default_rng(8)
    batches = [{"x": int8(rng, n, 1 << 22), "m": rng.normal(size=(n, 2))} for n in (4, 4, 2)]
    for index, batch in enumerate(batches):
        np.savez(tmp_path / f"{index}.npz", **batch)
    kind = cuda.names.cudaMemcpyKind.cudaMemcpyDeviceToHost
    before, _ = cuda.call("cudaMemGetInfo")
    for (count, addresses), batch in zip(device_batches(tmp_path), batches, strict=True):
        assert count == len(batch["x"])
        for name, array in batch.items():
            found = np.empty_like(array)
            cuda.call("cudaMemcpy", found.ctypes.data, addresses[name], found.nbytes, kind)
            np.testing.assert_array_equal(found, array)
    assert cuda.call("cudaMemGetInfo")[0] >= before
