"""Data types by Triton's names, and arrays as the bytes that it reads."""

import math
import struct
from collections.abc import Sequence

import numpy as np

from calib.backends.bfloat16 import nearest_bfloat16
from calib.errors import ModelError
from calib.results import TensorSpec
from data_loaders.types import Array

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "object": "TYPE_STRING",
}
"""All that both ONNX Runtime's backend and Triton know, by numpy's names; strings are objects."""
_TENSORRT = frozenset("float32 float16 bfloat16 int8 uint8 int32 int64 bool".split())
_DTYPES = {kind: dtype for dtype, kind in TYPES.items()}
_BF16_BYTES = 2


def triton_type(spec: TensorSpec, backend: str) -> str:
    """The data type of an input or output.

    Raises:
        ModelError: if Triton, or its backend, has none such: FP8, 4-bit and complex numbers.
    """
    known = TYPES if backend == "onnxruntime" else _TENSORRT
    if spec.dtype not in known:
        raise ModelError(
            spec.name,
            f"is of a type that Triton's {backend} backend cannot take or give",
            got=spec.dtype,
            expected=", ".join(sorted(known)),
            fix="Export the model with a Cast there.",
        )
    return TYPES[spec.dtype]


def raw(array: Array, dtype: str) -> bytes:
    """An array's elements in C order, little-endian, as Triton reads them from a file.

    Before each string stand its length in bytes, as a 32-bit number. BF16 is the upper half of
    float32, rounded to nearest, half to even.

    Args:
        array: any shape; float32 or 2-byte elements for bfloat16.
        dtype: that the model takes, by numpy's name.
    """
    if dtype == "object":
        return b"".join(map(_counted, array.reshape(-1).tolist()))
    if dtype == "bfloat16":
        if array.dtype.itemsize == _BF16_BYTES and array.dtype != np.float16:
            return np.ascontiguousarray(array).tobytes()
        bits = nearest_bfloat16(array).reshape(-1).view(np.uint32) >> 16
        return bits.astype("<u2").tobytes()
    wanted = np.dtype(dtype).newbyteorder("<")
    return np.asarray(array, order="C").astype(wanted, casting="same_kind").tobytes()


def _counted(text: str | bytes) -> bytes:
    content = text if isinstance(text, bytes) else str(text).encode()
    return struct.pack("<I", len(content)) + content


def byte_problem(content: bytes, kind: str, dims: Sequence[int]) -> str:
    """What is wrong with a file's size for this type and shape; empty if nothing."""
    count = math.prod(dims)
    if kind == "TYPE_STRING":
        found = _strings(content)
        return "" if found == count else f"{found} strings for {count}"
    size = _BF16_BYTES if kind == "TYPE_BF16" else np.dtype(_DTYPES[kind]).itemsize
    return "" if len(content) == count * size else f"{len(content)} bytes for {count * size}"


def _strings(content: bytes) -> int:
    """How many length-prefixed strings there are; -1 if the last is cut off."""
    at = count = 0
    while at < len(content):
        if len(content) - at < struct.calcsize("<I"):
            return -1
        at += struct.calcsize("<I") + struct.unpack_from("<I", content, at)[0]
        count += 1
    return count if at == len(content) else -1
