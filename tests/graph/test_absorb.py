"""Factors moved up into constants: the same outputs, and nothing left where it costs."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, ort_run
from onnx import TensorProto, helper, numpy_helper

from calib.graph.absorb import absorb
from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.linear import linears
from calib.graph.select import select

SIZE = 8


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def model(nodes, shape, constants, outputs=("y",)):
    rng = np.random.default_rng(0)
    tensors = []
    for name, given in constants.items():
        array = given if isinstance(given, np.ndarray) else rng.normal(size=given)
        dtype = array.dtype if array.dtype.kind == "i" else np.float32
        tensors.append(numpy_helper.from_array(array.astype(dtype), name))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(proto)


VECTOR, SQUARE = (SIZE,), (SIZE, SIZE)
LAYER_NORM = [node("LayerNormalization", ["x", "gamma", "beta"], "h")]
TWO_READERS = [node("MatMul", ["h", "w"], "y"), node("MatMul", ["h", "v"], "z")]
CASES = {
    "LayerNormalization that two products share": model(
        [*LAYER_NORM, *TWO_READERS],
        (5, SIZE),
        {"gamma": VECTOR, "beta": VECTOR, "w": SQUARE, "v": SQUARE},
        ("y", "z"),
    ),
    "LayerNormalization written out": model(
        [
            node("Mul", ["x", "gamma"], "scaled"),
            node("Add", ["scaled", "beta"], "h"),
            node("MatMul", ["h", "w"], "y"),
        ],
        (5, SIZE),
        {"gamma": VECTOR, "beta": VECTOR, "w": SQUARE},
    ),
    "Gemm with a bias": model(
        [node("Gemm", ["x", "v", "b"], "h"), node("Gemm", ["h", "w"], "y", transB=1)],
        VECTOR,
        {"v": SQUARE, "b": VECTOR, "w": SQUARE},
    ),
    "product and bias": model(
        [
            node("MatMul", ["x", "v"], "m"),
            node("Add", ["b", "m"], "h"),
            node("MatMul", ["h", "w"], "y"),
        ],
        (5, SIZE),
        {"v": SQUARE, "b": VECTOR, "w": SQUARE},
    ),
}
FACTOR_ONLY = {
    "Conv, Relu, Conv": model(
        [
            node("Conv", ["x", "v", "b"], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], "h"),
            node("Conv", ["h", "w"], "y", kernel_shape=[3, 3]),
        ],
        (4, 6, 6),
        {"v": (SIZE, 4, 3, 3), "b": VECTOR, "w": (5, SIZE, 3, 3)},
    ),
    "Conv, PRelu, MaxPool, depthwise Conv": model(
        [
            node("Conv", ["x", "v"], "c", kernel_shape=[1, 1]),
            node("PRelu", ["c", "slope"], "r"),
            node("MaxPool", ["r"], "h", kernel_shape=[2, 2]),
            node("Conv", ["h", "w"], "y", kernel_shape=[3, 3], group=SIZE),
        ],
        (4, 8, 8),
        {"v": (SIZE, 4, 1, 1), "slope": (SIZE, 1, 1), "w": (SIZE, 1, 3, 3)},
    ),
    "GELU's constant": model(
        [
            node("Div", ["x", "root"], "d"),
            node("Erf", ["d"], "e"),
            node("Add", ["e", "one"], "a"),
            node("Mul", ["x", "a"], "m"),
            node("Mul", ["m", "half"], "h"),
            node("MatMul", ["h", "w"], "y"),
        ],
        (5, SIZE),
        {
            "root": np.array(np.sqrt(2)),
            "one": np.array(1.0),
            "half": np.array(0.5),
            "w": SQUARE,
        },
    ),
    "values of an attention with two heads": model(
        [
            node("MatMul", ["x", "wv"], "v_"),
            node("Add", ["v_", "b"], "v"),
            node("Reshape", ["v", "split"], "v_split"),
            node("Transpose", ["v_split"], "v_heads", perm=[0, 2, 1, 3]),
            node("MatMul", ["x", "wq"], "q"),
            node("Reshape", ["q", "split"], "q_split"),
            node("Transpose", ["q_split"], "q_heads", perm=[0, 2, 1, 3]),
            node("Transpose", ["q_split"], "k_heads", perm=[0, 2, 3, 1]),
            node("MatMul", ["q_heads", "k_heads"], "scores"),
            node("Softmax", ["scores"], "p", axis=-1),
            node("MatMul", ["p", "v_heads"], "context"),
            node("Transpose", ["context"], "context_t", perm=[0, 2, 1, 3]),
            node("Reshape", ["context_t", "join"], "h"),
            node("MatMul", ["h", "w"], "y"),
        ],
        (5, SIZE),
        {
            "wv": SQUARE,
            "b": VECTOR,
            "wq": SQUARE,
            "w": SQUARE,
            "split": np.array([0, 5, 2, 4], dtype=np.int64),
            "join": np.array([0, 5, 8], dtype=np.int64),
        },
    ),
    "head behind a pooling": model(
        [
            node("Conv", ["x", "v", "b"], "c", kernel_shape=[1, 1]),
            node("Relu", ["c"], "r"),
            node("GlobalAveragePool", ["r"], "g"),
            node("Flatten", ["g"], "h"),
            node("Gemm", ["h", "w", "d"], "y", transB=1),
        ],
        (4, 6, 6),
        {"v": (SIZE, 4, 1, 1), "b": VECTOR, "w": SQUARE, "d": VECTOR},
    ),
}
REFUSED = {
    "a residual connection reads the tensor, too": model(
        [*LAYER_NORM, node("MatMul", ["h", "w"], "m"), node("Add", ["m", "h"], "y")],
        (5, SIZE),
        {"gamma": VECTOR, "beta": VECTOR, "w": SQUARE},
    ),
    "the tensor is an output": model(
        [*LAYER_NORM, node("MatMul", ["h", "w"], "y")],
        (5, SIZE),
        {"gamma": VECTOR, "beta": VECTOR, "w": SQUARE},
        ("y", "h"),
    ),
    "a ReLU6 stops the factor": model(
        [
            node("Conv", ["x", "v", "b"], "c", kernel_shape=[1, 1]),
            node("Clip", ["c", "zero", "six"], "h"),
            node("Conv", ["h", "w"], "y", kernel_shape=[3, 3]),
        ],
        (4, 6, 6),
        {
            "v": (SIZE, 4, 1, 1),
            "b": VECTOR,
            "w": (5, SIZE, 3, 3),
            "zero": np.array(0.0),
            "six": np.array(6.0),
        },
    ),
}


def treated(proto, tmp_path, *, shift):
    """The graph, and its copy with an affine in front of what reads h."""
    graph = loaded(proto, tmp_path)
    rng = np.random.default_rng(1)
    offset = rng.normal(size=SIZE) if shift else None
    affine = ChannelAffine(np.exp(rng.normal(size=SIZE)), offset)
    nodes = [n for n in linears(graph, select(graph, ALL)).values() if n.tensor == "h"]
    assert nodes
    rewritten, renamed = apply_affines(graph, nodes, {"h": affine})
    return graph, rewritten, renamed["h"]


def feeds_of(graph):
    shape = [3, *graph.graph.inputs[0].shape[1:]]
    return {"x": np.random.default_rng(2).normal(size=shape).astype(np.float32)}


def assert_same(graph, rewritten):
    onnx.checker.check_model(ir.to_proto(rewritten), full_check=True)
    wanted, found = (ort_run(g, feeds_of(graph)) for g in (graph, rewritten))
    assert list(wanted) == list(found)
    for name, values in wanted.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5 * scale)


def count(graph):
    return len(list(graph.graph))


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_scale_and_a_shift_are_taken_up(name, shift, tmp_path):
    graph, rewritten, end = treated(CASES[name], tmp_path, shift=shift)
    before = count(rewritten)
    absorb(rewritten, [end])
    assert_same(graph, rewritten)
    assert count(rewritten) == before - (2 if shift else 1)


@pytest.mark.parametrize("name", FACTOR_ONLY)
def test_a_factor_passes_what_commutes_with_it(name, tmp_path):
    graph, rewritten, end = treated(FACTOR_ONLY[name], tmp_path, shift=False)
    absorb(rewritten, [end])
    assert_same(graph, rewritten)
    assert count(rewritten) == count(graph)


@pytest.mark.parametrize(
    ("name", "shift"),
    [*((n, True) for n in FACTOR_ONLY), *((n, s) for n in REFUSED for s in (0, 1))],
)
def test_what_cannot_be_taken_up_stays_where_it_is(name, shift, tmp_path):
    graph, rewritten, end = treated({**FACTOR_ONLY, **REFUSED}[name], tmp_path, shift=shift)
    before = count(rewritten)
    assert not absorb(rewritten, [end])
    assert_same(graph, rewritten)
    assert count(rewritten) == before


def test_tensors_whose_range_is_known_are_left_alone(tmp_path):
    graph, rewritten, end = treated(FACTOR_ONLY["Conv, Relu, Conv"], tmp_path, shift=False)
    before = count(rewritten)
    assert not absorb(rewritten, [end], fixed={"c"})
    assert count(rewritten) == before
    assert_same(graph, rewritten)


def test_it_says_by_how_much_output_channels_were_scaled(tmp_path):
    graph, rewritten, end = treated(FACTOR_ONLY["Conv, Relu, Conv"], tmp_path, shift=False)
    (scaled,) = [absorb(rewritten, [end])]
    (name,) = scaled
    before = graph.graph.initializers["v"].const_value.numpy()
    weights = {str(n.name): n.inputs[1].const_value for n in rewritten.graph if n.op_type == "Conv"}
    found = weights[name].numpy() / before
    np.testing.assert_allclose(found[:, 0, 0, 0], scaled[name], rtol=1e-5)


def test_tensors_on_the_way_do_not_keep_their_names(tmp_path):
    """Layers are compared by name: one that holds other values now must not be found."""
    _, rewritten, end = treated(FACTOR_ONLY["Conv, Relu, Conv"], tmp_path, shift=False)
    absorb(rewritten, [end])
    names = {v.name for n in rewritten.graph for v in n.outputs}
    assert end in names
    assert not names & {"c", "h"}
