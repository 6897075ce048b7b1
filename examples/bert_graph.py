"""The ONNX graph of a BERT encoder, written from its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_MASKED = -10000.0
"""Added to the scores of padding: far below any score, and well within FP16."""

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of the encoder."""

    layers: int = 6
    heads: int = 12
    hidden: int = 384
    layer_norm_epsilon: float = 1e-12


@dataclass(slots=True)
class _Writer:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def op(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        output = f"{name}_output_0"
        self.nodes.append(
            helper.make_node(op_type, inputs, [output], name=name, **attributes)  # type: ignore[arg-type]
        )
        return output


def bert_classifier(
    weights: Weights, head: NDArray[np.float32], bias: NDArray[np.float32], shape: BertShape
) -> onnx.ModelProto:
    """Encoder, masked mean pooling, L2 normalisation, and a linear head.

    Args:
        weights: by the names of the Hugging Face checkpoint, (out, in) for dense layers.
        head: float32 (hidden, classes).
        bias: float32 (classes,).
        shape: sizes of the encoder.

    Returns:
        A model from input_ids, attention_mask, token_type_ids (batch, sequence), int64, to
        logits (batch, classes) and embedding (batch, hidden).
    """
    writer = _Writer()
    hidden = _embeddings(writer, weights, shape)
    mask = _additive_mask(writer)
    for index in range(shape.layers):
        hidden = _layer(writer, weights, shape, f"encoder.layer.{index}", hidden, mask)
    embedding = _pooled(writer, hidden)
    scores = writer.op("MatMul", [embedding, writer.constant("head.weight", head)], "/head/MatMul")
    last = writer.op("Add", [scores, writer.constant("head.bias", bias)], "/head/Add")
    writer.nodes[-1].output[0] = "logits"
    del last
    return _model(writer, head.shape[1])


def _embeddings(writer: _Writer, weights: Weights, shape: BertShape) -> str:
    def table(name: str) -> str:
        return writer.constant(f"embeddings.{name}.weight", weights[f"embeddings.{name}.weight"])

    words = writer.op("Gather", [table("word_embeddings"), "input_ids"], "/embeddings/word/Gather")
    types = writer.op(
        "Gather", [table("token_type_embeddings"), "token_type_ids"], "/embeddings/type/Gather"
    )
    sizes = writer.op("Shape", ["input_ids"], "/embeddings/Shape", start=1, end=2)
    zero = writer.constant("zero", np.array([0], dtype=np.int64))
    positions = writer.op(
        "Slice", [table("position_embeddings"), zero, sizes, zero], "/embeddings/position/Slice"
    )
    both = writer.op("Add", [words, types], "/embeddings/Add")
    total = writer.op("Add", [both, positions], "/embeddings/Add_1")
    return _layer_norm(writer, weights, shape, "embeddings.LayerNorm", total)


def _additive_mask(writer: _Writer) -> str:
    axes = writer.constant("mask_axes", np.array([1, 2], dtype=np.int64))
    wide = writer.op("Unsqueeze", ["attention_mask", axes], "/mask/Unsqueeze")
    real = writer.op("Cast", [wide], "/mask/Cast", to=TensorProto.FLOAT)
    one = writer.constant("one", np.array(1, dtype=np.float32))
    padding = writer.op("Sub", [one, real], "/mask/Sub")
    far = writer.constant("masked", np.array(_MASKED, dtype=np.float32))
    return writer.op("Mul", [padding, far], "/mask/Mul")


def _layer(
    writer: _Writer, weights: Weights, shape: BertShape, name: str, hidden: str, mask: str
) -> str:
    context = _attention(writer, weights, shape, f"{name}.attention.self", hidden, mask)
    projected = _dense(writer, weights, f"{name}.attention.output.dense", context)
    path = "/" + name.replace("encoder.layer", "encoder/layer")
    summed = writer.op("Add", [projected, hidden], f"{path}/attention/output/Add")
    normed = _layer_norm(writer, weights, shape, f"{name}.attention.output.LayerNorm", summed)
    wide = _gelu(
        writer,
        f"{path}/intermediate",
        _dense(writer, weights, f"{name}.intermediate.dense", normed),
    )
    narrow = _dense(writer, weights, f"{name}.output.dense", wide)
    total = writer.op("Add", [narrow, normed], f"{path}/output/Add")
    return _layer_norm(writer, weights, shape, f"{name}.output.LayerNorm", total)


def _attention(
    writer: _Writer, weights: Weights, shape: BertShape, name: str, hidden: str, mask: str
) -> str:
    path = "/" + name.replace("encoder.layer", "encoder/layer").replace(
        ".attention.", "/attention/"
    )
    width = shape.hidden // shape.heads
    split = writer.constant("split_heads", np.array([0, 0, shape.heads, width], dtype=np.int64))
    join = writer.constant("join_heads", np.array([0, 0, shape.hidden], dtype=np.int64))

    def heads(part: str, order: list[int]) -> str:
        dense = _dense(writer, weights, f"{name}.{part}", hidden)
        parts = writer.op("Reshape", [dense, split], f"{path}/{part}/Reshape")
        return writer.op("Transpose", [parts], f"{path}/{part}/Transpose", perm=order)

    query, value = heads("query", [0, 2, 1, 3]), heads("value", [0, 2, 1, 3])
    key = heads("key", [0, 2, 3, 1])
    products = writer.op("MatMul", [query, key], f"{path}/MatMul")
    root = writer.constant("head_scale", np.array(np.sqrt(width), dtype=np.float32))
    scores = writer.op("Div", [products, root], f"{path}/Div")
    masked = writer.op("Add", [scores, mask], f"{path}/Add")
    shares = writer.op("Softmax", [masked], f"{path}/Softmax", axis=-1)
    mixed = writer.op("MatMul", [shares, value], f"{path}/MatMul_1")
    ordered = writer.op("Transpose", [mixed], f"{path}/Transpose", perm=[0, 2, 1, 3])
    return writer.op("Reshape", [ordered, join], f"{path}/Reshape")


def _dense(writer: _Writer, weights: Weights, name: str, value: str) -> str:
    path = "/" + name.replace(".", "/").replace("layer/", "layer.")
    weight = writer.constant(f"{name}.weight", weights[f"{name}.weight"].T)
    bias = writer.constant(f"{name}.bias", weights[f"{name}.bias"])
    product = writer.op("MatMul", [value, weight], f"{path}/MatMul")
    return writer.op("Add", [bias, product], f"{path}/Add")


def _layer_norm(writer: _Writer, weights: Weights, shape: BertShape, name: str, value: str) -> str:
    inputs = [
        value,
        writer.constant(f"{name}.weight", weights[f"{name}.weight"]),
        writer.constant(f"{name}.bias", weights[f"{name}.bias"]),
    ]
    path = "/" + name.replace(".", "/").replace("layer/", "layer.")
    return writer.op("LayerNormalization", inputs, path, axis=-1, epsilon=shape.layer_norm_epsilon)


def _gelu(writer: _Writer, path: str, value: str) -> str:
    root = writer.constant("sqrt_two", np.array(np.sqrt(2), dtype=np.float32))
    one = writer.constant("one", np.array(1, dtype=np.float32))
    half = writer.constant("half", np.array(0.5, dtype=np.float32))
    scaled = writer.op("Div", [value, root], f"{path}/Div")
    erf = writer.op("Erf", [scaled], f"{path}/Erf")
    shifted = writer.op("Add", [erf, one], f"{path}/Add")
    product = writer.op("Mul", [value, shifted], f"{path}/Mul")
    return writer.op("Mul", [product, half], f"{path}/Mul_1")


def _pooled(writer: _Writer, hidden: str) -> str:
    last = writer.constant("last_axis", np.array([-1], dtype=np.int64))
    length_axis = writer.constant("length_axis", np.array([1], dtype=np.int64))
    real = writer.op("Cast", ["attention_mask"], "/pool/Cast", to=TensorProto.FLOAT)
    column = writer.op("Unsqueeze", [real, last], "/pool/Unsqueeze")
    kept = writer.op("Mul", [hidden, column], "/pool/Mul")
    total = writer.op("ReduceSum", [kept, length_axis], "/pool/ReduceSum", keepdims=0)
    count = writer.op("ReduceSum", [column, length_axis], "/pool/ReduceSum_1", keepdims=0)
    mean = writer.op("Div", [total, count], "/pool/Div")
    norm = writer.op("ReduceL2", [mean], "/pool/ReduceL2", axes=[-1], keepdims=1)
    embedding = writer.op("Div", [mean, norm], "/pool/Div_1")
    writer.nodes[-1].output[0] = "embedding"
    del embedding
    return "embedding"


def _model(writer: _Writer, classes: int) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])]
    graph = helper.make_graph(
        writer.nodes, "bert_classifier", inputs, outputs, list(writer.constants.values())
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
        producer_name="calib examples",
    )
    onnx.checker.check_model(model)
    return model
