"""Names that calib gives are free, whatever names a model has already."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, ort_run
from onnx import TensorProto, helper, numpy_helper

from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.edit import free_name
from calib.graph.fp16 import to_fp16
from calib.graph.groups import groups_from_selection
from calib.graph.linear import linears
from calib.graph.qdq import Corrections, insert_qdq
from calib.graph.select import select
from calib.graph.switched import switched
from calib.graph.trial import trial_model


def adversary():
    """Every tensor and node has a name that a quantizer would give to something else."""
    rng = np.random.default_rng(2)
    constants = {
        "W1": rng.normal(size=(8, 8, 3, 3)),
        "W2": rng.normal(size=(8, 8, 3, 3)),
        "b": rng.normal(size=8),
        "x_scale": np.array([1.5]),
        "x_QuantizeLinear": np.array([0.25]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "W1", "b"], ["x_QuantizeLinear_output"], "x_gain"),
        helper.make_node("Relu", ["x_QuantizeLinear_output"], ["x_DequantizeLinear"], "x_scaled"),
        helper.make_node("Conv", ["x_DequantizeLinear", "W2", "b"], ["x_fp16"], "calib_x_0"),
        helper.make_node("Mul", ["x_fp16", "x_scale"], ["calib_trial_0"], "W1_axis0_int8"),
        helper.make_node("Add", ["calib_trial_0", "x_QuantizeLinear"], ["y"], "x_zero_point"),
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 4, 4])
    graph = helper.make_graph(nodes, "adversary", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def graph(tmp_path):
    return loaded(adversary(), tmp_path)


FEEDS = {"x": np.random.default_rng(1).normal(size=(2, 8, 8, 8)).astype(np.float32)}


def assert_valid(model):
    if all(output.shape is not None for output in model.graph.outputs):
        onnx.checker.check_model(ir.to_proto(model))
    names = [v.name for node in model.graph.all_nodes() for v in node.outputs]
    nodes = [node.name for node in model.graph.all_nodes()]
    assert len(set(names)) == len(names)
    assert len(set(nodes)) == len(nodes)
    assert not set(names) & {v.name for v in model.graph.initializers.values()}


def test_every_rewriting_of_a_graph_full_of_such_names_is_valid(graph):
    selection = select(graph, ALL)
    amax = dict.fromkeys(selection.activation_tensors, 4.0)
    assert len(selection.activation_tensors) == 2
    groups = groups_from_selection(selection, {})
    nodes = linears(graph, selection)
    affine = ChannelAffine(np.exp(np.random.default_rng(3).normal(size=8)))
    corrections = Corrections({}, {node: np.ones(8) for node in nodes})
    rewritten = [
        insert_qdq(graph, selection, amax, corrections),
        switched(graph, selection, amax, corrections, groups),
        trial_model(graph, selection, {"minmax": amax})[0],
        to_fp16(graph)[0],
        apply_affines(graph, nodes.values(), {"x": affine})[0],
    ]
    for model in rewritten:
        assert_valid(model)


def test_int8_computes_what_it_should_beside_such_names(graph):
    selection = select(graph, ALL)
    amax = dict.fromkeys(selection.activation_tensors, 40.0)
    amax["x"] = 4.5
    wanted = ort_run(graph, FEEDS)["y"]
    found = ort_run(insert_qdq(graph, selection, amax), FEEDS)["y"]
    assert np.square(found - wanted).sum() < 1e-3 * np.square(wanted).sum()


def test_names_inside_subgraphs_are_taken(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["inside"], "inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["h"], ["inside_2"], "inner_2")],
        "other",
        [],
        [helper.make_tensor_value_info("inside_2", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Abs", ["x"], ["h"], "first"),
        helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert free_name(model, "inside") == "inside_3"
    assert free_name(model, "inner") == "inner_3"
    assert free_name(model, "new") == "new"
    assert free_name(model, "new") == "new_2"


def test_ordinary_models_keep_the_names_that_they_are_known_by(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection = select(graph, ALL)
    amax = dict.fromkeys(selection.activation_tensors, 1.0)
    names = {v.name for n in insert_qdq(graph, selection, amax).graph for v in n.outputs}
    assert {f"{t}_DequantizeLinear_output" for t in selection.activation_tensors} <= names
