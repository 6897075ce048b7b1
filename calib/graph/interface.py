"""What a model takes and gives, for those who serve it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from calib.errors import ModelError
from calib.results import TensorSpec


@dataclass(frozen=True, slots=True)
class Interface:
    """A model's message and its ends.

    Attributes:
        proto: the `onnx.ModelProto`; weights outside the file are left there.
        inputs: without initializers; an axis is a size or a name, `?` where it has neither.
        outputs: likewise.
    """

    proto: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_interface(path: Path) -> Interface:
    """Read a file's inputs and outputs, not its weights beside it.

    Raises:
        ModelError: if it is no ONNX file.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ModelError(str(path), f"is no ONNX file that can be read: {error}") from error
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    return Interface(proto, tuple(map(_spec, inputs)), tuple(map(_spec, proto.graph.output)))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    axes = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?"
        for axis in tensor.shape.dim
    )
    return TensorSpec(name=value.name, dtype=kind.name, shape=axes)
