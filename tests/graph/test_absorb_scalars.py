"""A GELU that a runtime knows by its constants stays one where that is asked for."""

from collections import Counter

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from layer_models import loaded, ort_run
from onnx import TensorProto, helper

from calib.graph.absorb import absorb
from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.linear import linears
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec

WIDTH = 32


def gelu_layer():
    """x·W + b, GELU as exporters write it, and a second product."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "first"),
        helper.make_node("Add", ["p", "b"], ["h"], "bias"),
        helper.make_node("Div", ["h", "root"], ["d"], "div"),
        helper.make_node("Erf", ["d"], ["e"], "erf"),
        helper.make_node("Add", ["e", "one"], ["s"], "add"),
        helper.make_node("Mul", ["h", "s"], ["m"], "mul"),
        helper.make_node("Mul", ["m", "half"], ["g"], "halve"),
        helper.make_node("MatMul", ["g", "v"], ["y"], "second"),
    ]
    constants = {
        "w": rng.normal(size=(WIDTH, WIDTH)),
        "b": rng.normal(size=WIDTH),
        "v": rng.normal(size=(WIDTH, WIDTH)),
        "root": np.sqrt(2.0),
        "one": np.array(1.0),
        "half": np.array(0.5),
    }
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    shape = ["n", WIDTH]
    return models.build(nodes, [("x", TensorProto.FLOAT, shape)], [("y", shape)], constants)


@pytest.mark.parametrize("keep", [True, False])
def test_a_gelu_is_fused_where_its_constants_are_kept(tmp_path, keep):
    graph = loaded(gelu_layer(), tmp_path)
    nodes = linears(graph, select(graph, SelectionSpec(min_channels=1)))
    gain = ChannelAffine(np.linspace(0.5, 2.0, WIDTH))
    changed, renamed = apply_affines(graph, [nodes["second"]], {"g": gain})
    absorb(changed, renamed.values(), keep_scalars=keep)
    feeds = {"x": np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)}
    wanted, found = ort_run(graph, feeds)["y"], ort_run(changed, feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    save_model(changed, tmp_path / "changed.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(tmp_path / "changed.onnx"), options)
    operators = Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert (operators["Gelu"] + operators["BiasGelu"] > 0) is keep
    assert (operators["Erf"] > 0) is not keep
