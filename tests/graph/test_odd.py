"""Odd but lawful models: each runs whole, says what stays in float and why, and loses nothing."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from layer_models import normal
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from whole_runs import finished, reasons, signature, sqnr_db, written

from calib.errors import ModelError
from calib.graph.load import load_model

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
X = ("x", FLOAT, ["n", 16])


def made(nodes, constants, inputs=(X,), outputs=(("y", FLOAT, None),), opset=17):
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op_type, inputs, outputs, name="", **attributes):
    return helper.make_node(op_type, inputs.split(","), outputs.split(","), name, **attributes)


def checked(run, folder, least=25.0):
    """Candidates have the model's signature and are close to it."""
    ends = signature(folder / "model.onnx")
    for candidate in run.result.candidates[1:]:
        assert signature(written(run, candidate.name)) == ends
    assert sqnr_db(run, "fp16") > 45
    assert sqnr_db(run) > least
    return {w.node for w in run.result.calibration.weights}


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_nodes_stay_in_float_and_are_listed_so(kind, gates, tmp_path):
    constants = {
        "w": 0.3 * normal(1, 16, 16),
        "W": 0.3 * normal(2, 1, gates * 8, 16),
        "R": 0.3 * normal(3, 1, gates * 8, 8),
        "v": 0.3 * normal(4, 8, 5),
        "one": np.array([1], dtype=np.int64),
    }
    nodes = [
        node("MatMul", "x,w", "h", "before"),
        node("Transpose", "h", "t", perm=[1, 0, 2]),
        # '' is an input that is left out, and so is the first output.
        node(kind, "t,W,R,,", ",last", "recurrent", hidden_size=8),
        node("Squeeze", "last,zero", "s"),
        node("MatMul", "s,v", "y", "after"),
    ]
    constants["zero"] = np.array([0], dtype=np.int64)
    proto = made(
        nodes,
        constants,
        inputs=[("x", FLOAT, ["n", 7, 16])],
        outputs=[("y", FLOAT, ["n", 5])],
    )
    run = finished(proto, {"x": normal(5, 24, 7, 16)}, tmp_path)
    assert checked(run, tmp_path) == {"before", "after"}
    why = reasons(run)
    for tensor in ("W", "R", "h"):
        assert f"{kind} is recurrent" in why[tensor] or tensor == "h"
    assert "recurrent" in why["t"]


def test_duplicate_and_missing_node_names(tmp_path):
    nodes = [
        node("MatMul", "x,w", "a", "same"),
        node("Relu", "a", "b", "same"),
        node("MatMul", "b,v", "c"),
        node("Relu", "c", "d"),
        node("MatMul", "d,u", "y", "same"),
    ]
    constants = {n: 0.3 * normal(i, 16, 16) for i, n in enumerate("wvu")}
    proto = made(nodes, constants, outputs=[("y", FLOAT, ["n", 16])])
    run = finished(proto, feeds(), tmp_path)
    # ONNX Runtime takes no model with two nodes of one name: what it runs is a copy.
    said = "two nodes with same node name (same)"
    assert any(said in w and "is its FP32 copy" in w for w in run.result.model.warnings)
    assert len({w.node for w in run.result.calibration.weights}) == 3
    assert sqnr_db(run) > 25
    (wanted,) = ReferenceEvaluator(proto).run(None, feeds())
    (found,) = ort.InferenceSession(run.result.reference.model_path).run(None, feeds())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def feeds(*shape):
    return {"x": normal(5, 24, *(shape or (16,)))}


def test_float64_beside_float32_stays_and_is_listed_so(tmp_path):
    nodes = [
        node("MatMul", "x,w", "a", "single"),
        node("Cast", "a", "wide", to=DOUBLE),
        node("MatMul", "wide,v", "b", "double"),
        node("Cast", "b", "y", to=FLOAT),
    ]
    constants = {"w": 0.3 * normal(1, 16, 16), "v": normal(2, 16, 4).astype(np.float64)}
    run = finished(made(nodes, constants, outputs=[("y", FLOAT, ["n", 4])]), feeds(), tmp_path)
    assert checked(run, tmp_path) == {"single"}
    assert reasons(run)["v"] == "MatMul on float64: INT8 stands for float32 only"
    assert any("float64 tensors, the first v" in w for w in run.result.model.warnings)


def test_a_float64_net_is_refused_with_what_to_do(tmp_path):
    proto = made(
        [node("MatMul", "x,w", "y", "double")],
        {"w": normal(1, 16, 4).astype(np.float64)},
        inputs=[("x", DOUBLE, ["n", 16])],
        outputs=[("y", DOUBLE, ["n", 4])],
    )
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"no float32 weights.*float64 in w.*Export.*float32"):
        load_model(tmp_path / "m.onnx")


def test_a_kernel_that_is_computed_stays_in_float(tmp_path):
    nodes = [
        node("Conv", "x,w", "a", "still", pads=[1] * 4),
        node("GlobalAveragePool", "x", "g"),
        node("ReduceMean", "g", "m", axes=[0], keepdims=1),
        node("Mul", "w,m", "kernel", "made"),
        node("Conv", "x,kernel", "b", "moving", pads=[1] * 4),
        node("Add", "a,b", "y", "sum"),
    ]
    proto = made(
        nodes,
        {"w": 0.3 * normal(1, 6, 3, 3, 3)},
        inputs=[("x", FLOAT, ["n", 3, 8, 8])],
        outputs=[("y", FLOAT, ["n", 6, 8, 8])],
    )
    run = finished(proto, feeds(3, 8, 8), tmp_path)
    assert checked(run, tmp_path) == {"still"}
    assert "kernel is computed at run time" in reasons(run)["kernel"]


def test_one_tensor_on_both_sides_of_a_product(tmp_path):
    nodes = [
        node("MatMul", "x,w", "a", "first"),
        node("MatMul", "a,a", "square", "squared"),
        node("Softmax", "square", "y", "soft"),
    ]
    proto = made(
        nodes,
        {"w": 0.2 * normal(1, 16, 16)},
        inputs=[("x", FLOAT, ["n", 16, 16])],
        outputs=[("y", FLOAT, ["n", 16, 16])],
    )
    run = finished(proto, feeds(16, 16), tmp_path)
    checked(run, tmp_path)
    (record,) = [a for a in run.result.calibration.activations if a.tensor == "a"]
    assert record.consumers == ("squared", "squared")


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_product_with_a_vector_stays_in_float(side, tmp_path):
    inputs = "h,v" if side == "right" else "v,t"
    nodes = [
        node("MatMul", "x,w", "h", "first"),
        node("Transpose", "h", "t", perm=[0, 2, 1]),
        node("MatMul", inputs, "y", "vector"),
    ]
    proto = made(
        nodes,
        {"w": 0.3 * normal(1, 16, 12), "v": normal(2, 12)},
        inputs=[("x", FLOAT, ["n", 5, 16])],
        outputs=[("y", FLOAT, ["n", 5])],
    )
    run = finished(proto, feeds(5, 16), tmp_path)
    assert checked(run, tmp_path) == {"first"}
    assert "MatMul with a vector" in reasons(run)["v"]


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2])
def test_convolutions_of_one_and_three_dimensions_and_in_groups(op_type, rank, group, tmp_path):
    spread = np.logspace(-1.5, 0, 8).astype(np.float32)
    shape = (8, 4 // group) if op_type == "Conv" else (4, 8 // group)
    weight = 0.3 * normal(1, *shape, *[3] * rank)
    axis = 0 if op_type == "Conv" else 1
    size = [weight.shape[axis] if i == axis else 1 for i in range(weight.ndim)]
    weight *= spread[: weight.shape[axis]].reshape(size)
    proto = made(
        [node(op_type, "x,w,b", "y", "layer", group=group, pads=[1] * 2 * rank)],
        {"w": weight, "b": normal(2, 8)},
        inputs=[("x", FLOAT, ["n", 4, *[6] * rank])],
        outputs=[("y", FLOAT, ["n", 8, *[6] * rank])],
    )
    run = finished(proto, feeds(4, *[6] * rank), tmp_path)
    assert checked(run, tmp_path, 30) == {"layer"}
    assert [(w.axis, w.channels) for w in run.result.calibration.weights] == [
        (axis, weight.shape[axis])
    ]


@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_either_way_round(transposed, tmp_path):
    left, right = transposed
    weight = 0.3 * normal(1, 16, 5) * np.logspace(-2, 0, 5).astype(np.float32)
    nodes = [
        node("Transpose", "x", "xt", perm=[1, 0]),
        node("Gemm", f"{'xt' if left else 'x'},w", "y", "layer", transA=left, transB=right),
    ]
    constants = {"w": np.ascontiguousarray(weight.T) if right else weight}
    proto = made(nodes[0 if left else 1 :], constants, outputs=[("y", FLOAT, ["n", 5])])
    run = finished(proto, feeds(), tmp_path)
    checked(run, tmp_path, 30)
    assert [w.axis for w in run.result.calibration.weights] == [0 if right else 1]


def test_a_table_that_a_lookup_and_a_product_share(tmp_path):
    """A tied embedding: the product gets INT8 rows, the lookup reads what it always did."""
    nodes = [
        node("Gather", "table,ids", "e", "lookup"),
        node("MatMul", "e,w", "h", "middle"),
        node("Relu", "h", "r"),
        node("Transpose", "table", "turned", perm=[1, 0]),
        node("MatMul", "r,turned", "y", "logits"),
    ]
    table = normal(1, 40, 16) * np.logspace(-1, 0, 40).astype(np.float32)[:, None]
    proto = made(
        nodes,
        {"table": table, "w": 0.3 * normal(2, 16, 16)},
        inputs=[("ids", INT64, ["n", 6])],
        outputs=[("y", FLOAT, ["n", 6, 40])],
    )
    ids = np.random.default_rng(3).integers(0, 40, size=(24, 6))
    run = finished(proto, {"ids": ids}, tmp_path)
    assert checked(run, tmp_path) == {"middle", "logits"}
    assert {w.node: w.channels for w in run.result.calibration.weights}["logits"] == 40
    lookup = next(n for n in onnx.load(written(run)).graph.node if n.name == "lookup")
    kept = {i.name: i for i in onnx.load(written(run)).graph.initializer}[lookup.input[0]]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), table)


def test_a_table_that_both_read_as_it_is(tmp_path):
    nodes = [
        node("Gather", "table,ids", "e", "lookup"),
        node("MatMul", "e,table", "y", "product"),
    ]
    table = normal(1, 16, 16) * np.logspace(-1, 0, 16).astype(np.float32)
    proto = made(
        nodes,
        {"table": table},
        inputs=[("ids", INT64, ["n", 6])],
        outputs=[("y", FLOAT, ["n", 6, 16])],
    )
    ids = np.random.default_rng(3).integers(0, 16, size=(24, 6))
    run = finished(proto, {"ids": ids}, tmp_path)
    assert checked(run, tmp_path) == {"product"}
    lookup = next(n for n in onnx.load(written(run)).graph.node if n.name == "lookup")
    kept = {i.name: i for i in onnx.load(written(run)).graph.initializer}[lookup.input[0]]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), table)


def test_a_constant_that_is_an_output_and_an_input_that_nobody_reads(tmp_path):
    proto = made(
        [node("MatMul", "x,w", "y", "product")],
        {"w": 0.3 * normal(1, 16, 5)},
        inputs=[X, ("unread", FLOAT, ["n", 3])],
        outputs=[("y", FLOAT, ["n", 5]), ("w", FLOAT, [16, 5])],
    )
    given = {**feeds(), "unread": normal(6, 24, 3)}
    run = finished(proto, given, tmp_path)
    assert checked(run, tmp_path) == {"product"}
    errors = {e.tensor: e.sqnr_db for e in run.result.candidate("int8-minmax").outputs}
    assert errors["w"] is None
    assert any("unread is not used" in w for w in run.result.model.warnings)


def test_einsum_stays_in_float_and_says_what_would_help(tmp_path):
    nodes = [
        node("MatMul", "x,w", "h", "first"),
        node("Einsum", "h,v", "y", "sum", equation="nk,km->nm"),
    ]
    constants = {"w": 0.3 * normal(1, 16, 12), "v": 0.3 * normal(2, 12, 5)}
    run = finished(made(nodes, constants, outputs=[("y", FLOAT, ["n", 5])]), feeds(), tmp_path)
    assert checked(run, tmp_path) == {"first"}
    assert "Einsum is not quantized" in reasons(run)["v"]
    assert "MatMul" in reasons(run)["h"]


def test_a_dimension_of_nothing(tmp_path):
    nodes = [
        node("MatMul", "x,w", "h", "first"),
        node("Concat", "h,nothing", "c", axis=1),
        node("MatMul", "c,v", "y", "second"),
    ]
    proto = made(
        nodes,
        {
            "w": 0.3 * normal(1, 16, 12),
            "nothing": np.zeros((24, 0), np.float32),
            "v": 0.3 * normal(2, 12, 5),
        },
        inputs=[("x", FLOAT, [24, 16])],
        outputs=[("y", FLOAT, [24, 5])],
    )
    run = finished(proto, feeds(), tmp_path)
    assert checked(run, tmp_path) == {"first", "second"}


def test_outputs_keep_their_type_in_fp16_whatever_makes_them(tmp_path):
    """Casts of a large index, of a truth value and of a tensor that others read, too."""
    nodes = [
        node("MatMul", "x,w", "h", "first"),
        node("ArgMax", "h", "best", axis=1, keepdims=0),
        node("Add", "best,many", "far"),
        node("Cast", "far", "index", to=FLOAT),
        node("Greater", "h,zero", "positive"),
        node("Cast", "positive", "mask", to=FLOAT),
        node("Mul", "h,mask", "y"),
        node("EyeLike", "h", "eye", dtype=FLOAT),
        node("Mul", "h,eye", "diagonal"),
    ]
    constants = {
        "w": 0.3 * normal(1, 16, 24),
        "many": np.array(100_001, dtype=np.int64),
        "zero": np.array(0, dtype=np.float32),
    }
    names = ("index", "mask", "y", "diagonal")
    outputs = [(name, FLOAT, ["n"] if name == "index" else ["n", 24]) for name in names]
    run = finished(made(nodes, constants, outputs=outputs), feeds(), tmp_path)
    assert signature(written(run, "fp16")) == signature(tmp_path / "model.onnx")
    errors = {e.tensor: e.sqnr_db for e in run.result.candidate("fp16").outputs}
    assert errors["index"] is None
    assert errors["y"] > 45
