"""One graph for every choice: held against the FP32 model and the INT8 model that it stands for."""

import models
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from calib.graph.groups import groups_from_selection
from calib.graph.linear import linears
from calib.graph.native import insert_native_qdq, symmetric_range
from calib.graph.qdq import Corrections, insert_qdq, quantize_weight
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.switched import ACTIVATIONS, WEIGHTS, switched


def graph_of(proto, tmp_path):
    path = tmp_path / "source.onnx"
    save_model(ir.from_proto(proto), path)
    return read_graph(path)


def outputs(graph, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options)
    return session.run(None, feeds)


@pytest.fixture(params=["mlp", "residual_cnn", "transformer_block"])
def case(request, tmp_path):
    graph = graph_of(getattr(models, request.param)(), tmp_path)
    rng = np.random.default_rng(3)
    shapes = {
        "mlp": (4, models.FEATURES),
        "residual_cnn": (2, 16, 8, 8),
        "transformer_block": (2, 5, models.FEATURES),
    }
    name = graph.graph.inputs[0].name
    channels = graph.graph.inputs[0].shape[1]
    shape = shapes[request.param]
    if request.param == "residual_cnn" and isinstance(channels, int):
        shape = (2, channels, *shape[2:])
    feeds = {name: rng.normal(size=shape).astype(np.float32)}
    selection = select(graph, SelectionSpec())
    amax = dict.fromkeys(selection.activation_tensors, 3.0)
    return graph, selection, amax, feeds


def switches(groups, activations, weights):
    return {
        ACTIVATIONS: np.full(len(groups), activations),
        WEIGHTS: np.full(len(groups), weights),
    }


def test_all_switches_off_is_the_fp32_model(case):
    graph, selection, amax, feeds = case
    groups = groups_from_selection(selection, {})
    one = switched(graph, selection, amax, Corrections(), groups)
    found = outputs(one, {**feeds, **switches(groups, activations=False, weights=False)})
    np.testing.assert_allclose(found[0], outputs(graph, feeds)[0], rtol=1e-5, atol=1e-6)


def test_all_switches_on_is_the_int8_model(case):
    graph, selection, amax, feeds = case
    groups = groups_from_selection(selection, {})
    one = switched(graph, selection, amax, Corrections(), groups)
    found = outputs(one, {**feeds, **switches(groups, activations=True, weights=True)})
    wanted = outputs(insert_qdq(graph, selection, amax), feeds)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)


def test_corrections_come_with_the_weights(case):
    graph, selection, amax, feeds = case
    groups = groups_from_selection(selection, {})
    node, linear = next(iter(linears(graph, selection).items()))
    weight = graph.graph.initializers[linear.weight].const_value.numpy()
    other = quantize_weight(weight * 0.9, linear.axis)
    corrections = Corrections({node: other}, {node: np.linspace(0, 1, linear.outputs)})
    one = switched(graph, selection, amax, corrections, groups)
    wanted = outputs(insert_qdq(graph, selection, amax, corrections), feeds)
    found = outputs(one, {**feeds, **switches(groups, activations=True, weights=True)})
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)


def test_nodes_that_read_one_tensor_are_one_group(tmp_path):
    graph = graph_of(models.transformer_block(), tmp_path)
    selection = select(graph, SelectionSpec())
    groups = groups_from_selection(selection, {"query": 3, "key": 4, "scores": 5})
    by_name = {group.name: group for group in groups}
    assert by_name["query"].nodes == ("query", "key")
    assert by_name["query"].macs == 7
    assert by_name["scores"].nodes == ("scores",)
    assert sorted(n for g in groups for n in g.nodes) == sorted(selection.quantized_nodes)


def test_on_a_native_grid_it_is_the_native_model_but_for_outputs(case):
    graph, selection, amax, feeds = case
    groups = groups_from_selection(selection, {})
    on = switches(groups, activations=True, weights=True)
    same = dict.fromkeys(amax, symmetric_range(3.0))
    found = outputs(
        switched(graph, selection, amax, Corrections(), groups, ranges=same), feeds | on
    )
    wanted = outputs(insert_qdq(graph, selection, amax), feeds)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)
    if "Conv" in {node.op_type for node in graph.graph}:
        return
    ranges, limit = dict.fromkeys(amax, (-1.5, 3.0)), 63
    one = switched(graph, selection, amax, Corrections(), groups, ranges=ranges, limit=limit)
    wanted = outputs(insert_native_qdq(graph, selection, ranges, limit=limit), feeds)
    np.testing.assert_allclose(outputs(one, feeds | on)[0], wanted[0], rtol=1e-3, atol=1e-3)
