"""PaddleOCR's models, out of the package that carries them, at a current opset.

Weights: PaddleOCR PP-OCRv4 mobile and mobile v2.0 (Apache-2.0), from `rapidocr-onnxruntime`
(Apache-2.0).
"""

import onnx

from benchmarks.models.common import at_opset
from examples import paddle


def model(name: str, shape: list[str | int], output: list[str | int]) -> onnx.ModelProto:
    """The model with the shapes of its one input and its one output stated."""
    found = paddle.model(name)
    shapes = {found.graph.input[0].name: shape, found.graph.output[0].name: output}
    return at_opset(found, shapes)
