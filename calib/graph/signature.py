"""What a model takes and gives, as its file declares it; weights are not read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from calib.errors import ModelError
from calib.graph.load import _read_proto
from calib.results import TensorSpec


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs, in their order.

    Attributes:
        inputs: without those that an initializer gives a value.
        outputs: all of them.
        shapeless: names of those whose file says no rank; their shape here is ().
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    shapeless: frozenset[str] = frozenset()


def read_signature(path: Path) -> Signature:
    """The declared inputs and outputs of an ONNX file.

    An axis is its size, its name, or `?` where it has neither.

    Raises:
        ModelError: if there is no such file, it is no ONNX model, or one of its inputs or outputs
            is no tensor.
    """
    graph = _read_proto(path).graph
    given = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in given]
    ends = [*inputs, *graph.output]
    for value in ends:
        if value.type.WhichOneof("value") != "tensor_type":
            raise ModelError(
                str(path),
                f"its {value.name} is no tensor",
                got=value.type.WhichOneof("value") or "no type",
            )
    return Signature(
        _specs(inputs),
        _specs(graph.output),
        frozenset(v.name for v in ends if not v.type.tensor_type.HasField("shape")),
    )


def _specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=value.name,
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=tuple(_axis(axis) for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str:
    if axis.HasField("dim_value") and axis.dim_value >= 0:
        return int(axis.dim_value)
    return axis.dim_param or "?"
