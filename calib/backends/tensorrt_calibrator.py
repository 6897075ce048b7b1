"""Native calibrators of TensorRT 8.6 to 10, removed in 11."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ALGORITHMS = {
    "entropy": "IInt8EntropyCalibrator2",
    "minmax": "IInt8MinMaxCalibrator",
    "entropy_1": "IInt8EntropyCalibrator",
    "legacy": "IInt8LegacyCalibrator",
}
"""The base class of each native algorithm."""

_LEGACY_QUANTILE, _LEGACY_CUTOFF = 0.9999, 1.0

DeviceBatch = tuple[int, dict[str, int]]
"""Number of samples, and a device pointer by input name."""


def make_cache_calibrator(trt: Any, cache: bytes) -> Any:
    """A calibrator that only hands over a cache.

    If TensorRT does not accept the cache it asks for a batch; `asked_for_data` tells, and whoever
    built must refuse the engine: it was calibrated on nothing.

    Args:
        trt: the module, 8.6 to 10.
        cache: the text of a calibration cache.
    """

    class CacheCalibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.asked_for_data = False
            self.error: BaseException | None = None

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> list[int] | None:  # noqa: ARG002
            self.asked_for_data = True
            return None

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: Any) -> None:
            """Nothing new to keep."""

    return CacheCalibrator()


class _Feed:
    """Batches for TensorRT, and what went wrong with them.

    TensorRT logs an exception in `get_batch` and takes it for the end of the data. Here it is kept
    in `error`, and whoever built must raise it.
    """

    def __init__(self, batches: Iterator[DeviceBatch]) -> None:
        self._batches = batches
        self.error: BaseException | None = None
        self.samples = 0

    def pointers(self, names: list[str]) -> list[int] | None:
        """A device pointer for each name in their order; None at the end of the data."""
        try:
            count, by_name = next(self._batches, (0, {}))
            if count == 0:
                return None
            found = [by_name[name] for name in names]
            if not all(found):
                raise ValueError(f"a null pointer among the inputs {names}")
        except Exception as error:
            self.error = error
            return None
        self.samples += count
        return found


def make_calibrator(  # noqa: C901 - one short class
    trt: Any, algorithm: str, batches: Iterator[DeviceBatch], batch_size: int
) -> Any:
    """A native calibrator fed from our batches; `error` and `samples` tell how it went.

    Args:
        trt: the module, 8.6 to 10.
        algorithm: a key of ALGORITHMS.
        batches: the calibration data on the device; read once.
        batch_size: samples a batch.
    """
    base = getattr(trt, ALGORITHMS[algorithm])
    feed = _Feed(batches)

    class Calibrator(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.cache = b""

        @property
        def error(self) -> BaseException | None:
            return feed.error

        @property
        def samples(self) -> int:
            return feed.samples

        def get_batch_size(self) -> int:
            return batch_size

        def get_batch(self, names: list[str]) -> list[int] | None:
            return feed.pointers(names)

        def read_calibration_cache(self) -> bytes | None:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            self.cache = bytes(memoryview(cache))

        def get_quantile(self) -> float:
            return _LEGACY_QUANTILE

        def get_regression_cutoff(self) -> float:
            return _LEGACY_CUTOFF

        def read_histogram_cache(self, length: int) -> None:
            """No histogram is kept."""

        def write_histogram_cache(self, data: Any, length: int) -> None:
            """No histogram is kept."""

    return Calibrator()


def device_batches(folder: Path) -> Iterator[DeviceBatch]:
    """Batches saved as npz files, copied to the device one at a time.

    A batch's memory is the next one's, and is freed after the last.
    """
    from polygraphy.cuda import DeviceArray

    buffers: dict[str, Any] = {}
    with ExitStack() as memory:
        for path in sorted(folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                for name in arrays.files:
                    array = np.ascontiguousarray(arrays[name])
                    if name not in buffers:
                        buffers[name] = memory.enter_context(DeviceArray(dtype=array.dtype))
                    buffers[name].resize(array.shape)
                    buffers[name].copy_from(array)
                    count = len(array)
            yield count, {name: int(buffer.ptr) for name, buffer in buffers.items()}
