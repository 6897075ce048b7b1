"""BF16 beside numpy, which has no such type: its values are carried in float32.

A BF16 number is the upper half of a float32: widening is exact, narrowing rounds to the nearest,
half to even.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from data_loaders.types import Array

_BF16, _FLOAT = "tensor(bfloat16)", "tensor(float)"
_ONNX_BFLOAT16 = 16
"""TensorProto.BFLOAT16."""


def nearest_bfloat16(array: Array) -> NDArray[np.float32]:
    """float32 of the same shape: the BF16 number that is nearest to each value."""
    return _widened(_bits(np.asarray(array, dtype=np.float32)))


def _bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    whole = np.ascontiguousarray(array).reshape(array.shape).view(np.uint32).astype(np.uint64)
    rounded = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    # Rounding must not make an infinity of a NaN.
    quiet = (whole >> 16) | 0x40
    return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)


def _widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, slots=True)
class _Argument:
    """An input or output as the caller sees it."""

    name: str
    type: str
    shape: Any


class Float32Session:
    """A session whose BF16 inputs and outputs are seen, given and taken as float32."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    @staticmethod
    def is_needed(session: ort.InferenceSession) -> bool:
        """Whether the model has any BF16 input or output."""
        return any(a.type == _BF16 for a in (*session.get_inputs(), *session.get_outputs()))

    def get_inputs(self) -> list[_Argument]:
        """As of `onnxruntime.InferenceSession`."""
        return [_seen(argument) for argument in self._session.get_inputs()]

    def get_outputs(self) -> list[_Argument]:
        """As of `onnxruntime.InferenceSession`."""
        return [_seen(argument) for argument in self._session.get_outputs()]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """As of `onnxruntime.InferenceSession`."""
        types = {argument.name: argument.type for argument in self._session.get_inputs()}
        given = {name: _ort_value(array, types.get(name, "")) for name, array in feeds.items()}
        wanted = list(names or [argument.name for argument in self._session.get_outputs()])
        return [_numpy(value) for value in self._session.run_with_ort_values(wanted, given)]


def _seen(argument: Any) -> _Argument:
    kind = _FLOAT if argument.type == _BF16 else argument.type
    return _Argument(argument.name, kind, argument.shape)


def _ort_value(array: Array, kind: str) -> ort.OrtValue:
    if kind != _BF16:
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))
    bits = _bits(np.asarray(array, dtype=np.float32))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BFLOAT16)


def _numpy(value: ort.OrtValue) -> Array:
    if value.data_type() != _BF16:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    size = int(np.prod(shape, dtype=np.int64))
    if size == 0:
        return np.zeros(shape, dtype=np.float32)
    # The runtime has no numpy type for it; its memory is read as what it is.
    bits = np.ctypeslib.as_array((ctypes.c_uint16 * size).from_address(value.data_ptr()))
    return _widened(bits).reshape(shape)
