"""PaddleOCR's models, out of the package that carries them, at a current opset.

Weights: PaddleOCR PP-OCRv4 mobile and mobile v2.0 (Apache-2.0), from `rapidocr-onnxruntime`
(Apache-2.0).
"""

import onnx

from benchmarks.models.common import at_opset
from examples.packages import read_member, wheel

_REQUIREMENT = "rapidocr-onnxruntime==1.4.4"
_SHA256 = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
_MEMBER = "rapidocr_onnxruntime/models/{}.onnx"


def model(name: str, shape: list[str | int], output: list[str | int]) -> onnx.ModelProto:
    """The model with the shapes of its one input and its one output stated."""
    found = onnx.load_from_string(read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER.format(name)))
    shapes = {found.graph.input[0].name: shape, found.graph.output[0].name: output}
    return at_opset(found, shapes)
