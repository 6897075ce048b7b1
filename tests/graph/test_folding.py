"""Weights that exporters compute from constants, each way of them, with the axis of the end."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, normal, ort_run
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calib.graph.constants import fold_constants
from calib.graph.qdq import insert_qdq
from calib.graph.select import select

FLOAT = TensorProto.FLOAT
INTS = {
    "ones": [1],
    "rows": [4, 8],
    "zero": [0],
    "four": [4],
    "eight": [8],
    "twice": [2, 1],
    "wide": [8, 6],
    "axis0": [0],
}


def made(nodes, constants, width=8, out=6):
    ints = {name: np.array(value, dtype=np.int64) for name, value in INTS.items()}
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "W"], ["y"], "product")],
        "folding",
        [helper.make_tensor_value_info("x", FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", out])],
        [numpy_helper.from_array(a, n) for n, a in {**ints, **constants}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def node(op_type, inputs, output="W", **attributes):
    return helper.make_node(op_type, inputs, [output], f"{op_type}_{output}", **attributes)


CHAINS = {
    "squeeze": [node("Squeeze", ["stack", "ones"])],
    "unsqueeze and flatten": [
        node("Unsqueeze", ["v", "ones"], "u"),
        node("Flatten", ["u"], axis=1),
    ],
    "concat": [node("Concat", ["top", "bottom"], axis=0)],
    "slice": [node("Slice", ["tall", "four", "twelve", "axis0"])],
    "split": [
        helper.make_node("Split", ["tall", "sizes"], ["first", "W"], "cut", axis=0),
    ],
    "gather": [node("Gather", ["table", "order"], axis=0)],
    "reshape of transpose": [
        node("Transpose", ["vt"], "t", perm=[1, 0]),
        node("Reshape", ["t", "wide"]),
    ],
    "weight normalisation": [
        node("ReduceL2", ["v"], "length", axes=[0], keepdims=1),
        node("Div", ["v", "length"], "direction"),
        node("Mul", ["direction", "g"]),
    ],
    "low-rank update": [
        node("MatMul", ["a", "b"], "delta"),
        node("Mul", ["delta", "alpha"], "scaled"),
        node("Add", ["v", "scaled"]),
    ],
    "integers and a scale": [
        node("Cast", ["codes"], "wide_codes", to=FLOAT),
        node("Sub", ["wide_codes", "offset"], "centred"),
        node("Mul", ["centred", "g"]),
    ],
    "shape of a constant": [
        node("Shape", ["v"], "size"),
        node("Reshape", ["flat", "size"]),
    ],
    "pruned": [node("Where", ["mask", "v", "nought"])],
    "tile": [node("Tile", ["top", "twice"])],
}


def constants():
    v = normal(1, 8, 6) * np.logspace(-2, 0, 6).astype(np.float32)
    return {
        "v": v,
        "vt": np.ascontiguousarray(v.T),
        "stack": v[:, None],
        "top": v[:4],
        "bottom": v[4:],
        "tall": np.concatenate([normal(2, 4, 6), v]),
        "twelve": np.array([12], dtype=np.int64),
        "sizes": np.array([4, 8], dtype=np.int64),
        "table": normal(3, 20, 6),
        "order": np.array([3, 1, 4, 15, 9, 2, 6, 5], dtype=np.int64),
        "g": np.logspace(-2, 0, 6).astype(np.float32),
        "a": normal(4, 8, 2),
        "b": normal(5, 2, 6),
        "alpha": np.array(0.5, dtype=np.float32),
        "codes": np.arange(48, dtype=np.uint8).reshape(8, 6),
        "offset": np.array(24, dtype=np.float32),
        "flat": v.ravel(),
        "mask": normal(6, 8, 6) > -1,
        "nought": np.array(0, dtype=np.float32),
    }


@pytest.mark.parametrize("chain", CHAINS)
def test_the_weight_is_folded_and_quantized_by_output_channel(chain, tmp_path):
    proto = made(CHAINS[chain], constants())
    x = normal(7, 32, 8)
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})
    graph = loaded(proto, tmp_path)
    selection = select(graph, ALL)
    assert [(site.tensor, site.axis) for site in selection.weights] == [("W", 1)]
    np.testing.assert_allclose(ort_run(graph, {"x": x})["y"], wanted, rtol=1e-5, atol=1e-6)
    quantized = insert_qdq(graph, selection, {"x": float(np.abs(x).max())})
    found = ort_run(quantized, {"x": x})["y"]
    # One scale for all columns would lose the small ones.
    for column in range(wanted.shape[1]):
        noise = np.square(found[:, column] - wanted[:, column]).sum()
        assert noise <= 1e-3 * np.square(wanted[:, column]).sum()


def folded(nodes, given, tmp_path, out):
    """The model with a plain product beside it."""
    proto = made(nodes, {**given, "plain": normal(9, 8, 6)}, out=out)
    proto.graph.node.append(helper.make_node("MatMul", ["x", "plain"], ["z"], "beside"))
    proto.graph.output.append(helper.make_tensor_value_info("z", FLOAT, ["n", 6]))
    graph = loaded(proto, tmp_path)
    return {n.op_type for n in graph.graph}, graph


def test_what_would_blow_the_model_up_is_left(tmp_path):
    """A tile of 64 MB from 192 bytes is spelled out in no file, and its node stays in float."""
    given = {"top": normal(1, 8, 6), "much": np.array([1, 350_000], dtype=np.int64)}
    nodes = [node("Tile", ["top", "much"])]
    kinds, graph = folded(nodes, given, tmp_path, 2_100_000)
    assert "Tile" in kinds
    assert sum(v.const_value.nbytes for v in graph.graph.initializers.values()) < 10_000


def test_a_constant_of_unknown_shape_is_not_made_to_find_out(tmp_path):
    """ConstantOfShape reads only a shape: nothing else bounds what it makes."""
    given = {
        "huge": np.array([8, 10**9], dtype=np.int64),
        "begin": np.array([0, 0], dtype=np.int64),
        "end": np.array([8, 6], dtype=np.int64),
        "v": normal(1, 8, 6),
    }
    nodes = [
        node("ConstantOfShape", ["huge"], "filled"),
        node("Slice", ["filled", "begin", "end"], "piece"),
        node("Add", ["v", "piece"]),
    ]
    kinds, _ = folded(nodes, given, tmp_path, 6)
    assert "ConstantOfShape" in kinds


def test_random_constants_stay_random(tmp_path):
    nodes = [
        node("RandomNormalLike", ["v"], "noise"),
        node("Add", ["v", "noise"]),
    ]
    kinds, _ = folded(nodes, {"v": normal(1, 8, 6)}, tmp_path, 6)
    assert kinds == {"RandomNormalLike", "Add", "MatMul"}


def test_what_the_model_gives_out_keeps_its_node(tmp_path):
    proto = made([node("Transpose", ["vt"], perm=[1, 0])], {"vt": normal(1, 6, 8)})
    proto.graph.output.append(helper.make_tensor_value_info("W", FLOAT, [8, 6]))
    graph = loaded(proto, tmp_path)
    found = ort_run(graph, {"x": normal(2, 3, 8)})
    np.testing.assert_array_equal(found["W"], normal(1, 6, 8).T)
    ((site,), (weight,)) = (select(graph, ALL).activations, select(graph, ALL).weights)
    assert (site.tensor, weight.axis) == ("x", 1)
    assert [value.name for value in graph.graph.outputs] == ["y", "W"]


def test_folding_leaves_its_argument_alone(tmp_path):
    graph = ir.from_proto(made(CHAINS["weight normalisation"], constants()))
    before = ir.to_proto(graph).SerializeToString()
    fold_constants(graph)
    assert ir.to_proto(graph).SerializeToString() == before
