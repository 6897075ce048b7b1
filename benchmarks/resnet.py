"""ResNet-50 with drawn weights: what calibration costs depends on shapes, not on weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

BLOCKS = (3, 4, 6, 3)
SIZE = 224


class _Builder:
    """Nodes and weights of a graph, in order."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []
        self._rng = np.random.default_rng(0)

    def node(self, op_type: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=f"{op_type}_{len(self.nodes)}")
        node.outputs[0].name = f"{node.name}_output"
        self.nodes.append(node)
        return node.outputs[0]

    def weight(self, array: NDArray[np.float32]) -> ir.Value:
        name = f"weight_{len(self.weights)}"
        tensor = ir.tensor(array, name=name)
        value = ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
        self.weights.append(value)
        return value

    def convolution(
        self, x: ir.Value, channels: tuple[int, int], kernel: int, stride: int = 1
    ) -> ir.Value:
        """Conv and BatchNormalization, He-initialised: Var w = 2 / (inputs of an output)."""
        inputs, outputs = channels
        spread = np.sqrt(2 / (inputs * kernel * kernel))
        shape = (outputs, inputs, kernel, kernel)
        weight = self.weight(self._rng.normal(0, spread, shape).astype(np.float32))
        pads, strides = [kernel // 2] * 4, [stride] * 2
        y = self.node("Conv", [x, weight], kernel_shape=[kernel] * 2, pads=pads, strides=strides)
        gain = self._rng.uniform(0.4, 0.8, outputs).astype(np.float32)
        zeros, ones = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
        return self.node(
            "BatchNormalization", [y, *(self.weight(a) for a in (gain, zeros, zeros, ones))]
        )

    def bottleneck(self, x: ir.Value, inputs: int, width: int, stride: int) -> ir.Value:
        y = self.node("Relu", [self.convolution(x, (inputs, width), 1)])
        y = self.node("Relu", [self.convolution(y, (width, width), 3, stride)])
        y = self.convolution(y, (width, 4 * width), 1)
        skip = x if inputs == 4 * width else self.convolution(x, (inputs, 4 * width), 1, stride)
        return self.node("Relu", [self.node("Add", [y, skip])])


def build(folder: Path) -> Path:
    """Write the model: images (batch, 3, 224, 224) to logits (batch, 1000).

    Architecture: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the
    stride in the 3x3 convolution as later implementations have it.
    """
    graph = _Builder()
    image = ir.val("image", ir.DataType.FLOAT, ir.Shape(["batch", 3, SIZE, SIZE]))
    x = graph.node("Relu", [graph.convolution(image, (3, 64), 7, 2)])
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        width = 64 * 2**stage
        for block in range(blocks):
            x = graph.bottleneck(x, inputs, width, 2 if stage and not block else 1)
            inputs = 4 * width
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    head = np.random.default_rng(1).normal(0, 0.01, (1000, inputs)).astype(np.float32)
    bias = graph.weight(np.zeros(1000, np.float32))
    logits = graph.node("Gemm", [x, graph.weight(head), bias], transB=1)
    logits.dtype, logits.shape = ir.DataType.FLOAT, ir.Shape(["batch", 1000])
    model = ir.Model(
        ir.Graph(
            [image],
            [logits],
            nodes=graph.nodes,
            initializers=graph.weights,
            opset_imports={"": 17},
            name="resnet50",
        ),
        ir_version=9,
    )
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(model, folder / "resnet50.onnx")
    return folder / "resnet50.onnx"


def images(count: int) -> Iterator[NDArray[np.float32]]:
    """Smooth noise, float32 (3, 224, 224): neighbours are alike, as in a photograph."""
    rng = np.random.default_rng(2)
    for _ in range(count):
        coarse = rng.normal(size=(3, SIZE // 8, SIZE // 8))
        fine = rng.normal(0, 0.2, (3, SIZE, SIZE))
        yield (coarse.repeat(8, axis=1).repeat(8, axis=2) + fine).astype(np.float32)
