"""TensorRT's calibration cache: a text file of one scale a tensor.

    TRT-8600-EntropyCalibration2
    input_ids: 3c010a14

Each line is a tensor's name, `: `, and eight hexadecimal digits: the big-endian IEEE-754 float32
scale, which is threshold / 127. A name may hold `: ` itself. The format is not published; it was
derived from public caches and headers.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calib.errors import StoreError

INT8_MAX = 127
_HEADER = re.compile(r"^TRT-(?P<version>\d+)-(?P<algorithm>\w+)$")
ALGORITHMS = (
    "EntropyCalibration2",
    "EntropyCalibration",
    "MinMaxCalibration",
    "LegacyCalibration",
)


@dataclass(frozen=True, slots=True)
class CalibrationCache:
    """A cache as it was read, or is to be written.

    Attributes:
        version: TensorRT's version number as the header has it, e.g. 8600 or 100300.
        algorithm: e.g. EntropyCalibration2.
        scales: float32 scale by tensor name, in the file's order.
        unknown: lines that are no `name: scale`, kept as they are.
    """

    version: int
    algorithm: str
    scales: dict[str, float]
    unknown: tuple[str, ...] = ()

    @property
    def tensorrt(self) -> str:
        """The version as people write it: 8600 is 8.6.0, 100300 is 10.3.0."""
        major, rest = divmod(self.version, 10_000 if self.version >= 100_000 else 1_000)
        return f"{major}.{rest // 100}.{rest % 100}"

    @property
    def is_known(self) -> bool:
        """Whether the header names one of TensorRT's four calibrators."""
        return self.algorithm in ALGORITHMS

    @property
    def amax(self) -> dict[str, float]:
        """Clipping threshold by tensor name: scale x 127; unusable scales are left out."""
        return {n: scale * INT8_MAX for n, scale in self.scales.items() if is_usable(scale)}

    def text(self) -> str:
        """The file's content."""
        lines = [f"TRT-{self.version}-{self.algorithm}"]
        lines += [f"{name}: {_hex(scale)}" for name, scale in self.scales.items()]
        return "\n".join([*lines, *self.unknown]) + "\n"


def is_usable(scale: float) -> bool:
    """Whether a scale can be quantized with."""
    return bool(np.isfinite(scale) and scale > 0)


def version_number(version: str) -> int:
    """The header's number of a TensorRT version: 8.6.1 is 8601, 10.3.0 is 100300.

    Source: NvInferVersion.h: major·1000 + minor·100 + patch below 10, major·10000 + minor·100 +
    patch from 10 on.
    """
    major, minor, patch = ([int(part) for part in version.split(".")[:3]] + [0, 0])[:3]
    return major * (10_000 if major >= 10 else 1_000) + minor * 100 + patch


def cache_from_amax(amax: dict[str, float], version: str, algorithm: str) -> CalibrationCache:
    """A cache that a native calibrator of that TensorRT version reads.

    Args:
        amax: threshold by tensor name.
        version: e.g. 10.3.0.
        algorithm: EntropyCalibration2, MinMaxCalibration, EntropyCalibration or LegacyCalibration.

    Raises:
        ValueError: if the algorithm has another name, or a threshold is not finite and positive.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm}")
    for name, value in amax.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: amax must be finite and positive, got {value}")
    scales = {name: float(np.float32(value / INT8_MAX)) for name, value in amax.items()}
    return CalibrationCache(version_number(version), algorithm, scales)


def load_cache(path: Path) -> CalibrationCache:
    """Read a cache.

    Raises:
        StoreError: if there is no such file, or it is no calibration cache.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise StoreError(str(path), "there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
    header = _HEADER.match(lines[0].strip())
    if header is None:
        raise StoreError(
            str(path),
            "is no TensorRT calibration cache",
            got=repr(lines[0][:60]),
            expected="a first line such as TRT-8600-EntropyCalibration2",
        )
    scales: dict[str, float] = {}
    unknown: list[str] = []
    for line in lines[1:]:
        name, colon, digits = line.rpartition(": ")
        scale = _scale(digits.strip()) if colon else None
        if scale is None or name in scales:
            unknown.extend([line] if line.strip() else [])
        else:
            scales[name] = scale
    return CalibrationCache(int(header["version"]), header["algorithm"], scales, tuple(unknown))


def _hex(scale: float) -> str:
    return struct.pack(">f", scale).hex()


def _scale(digits: str) -> float | None:
    """The float32 behind up to eight hexadecimal digits; shorter ones lack leading zeros."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
        return None
    (value,) = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))
    return float(value)
