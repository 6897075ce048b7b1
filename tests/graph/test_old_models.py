"""Old opsets and IR versions are really converted: what is written runs, and computes the same."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import ALL, loaded, normal
from onnx import TensorProto, helper, numpy_helper

from calib.graph.load import load_model
from calib.graph.qdq import insert_qdq
from calib.graph.select import select

FLOAT = TensorProto.FLOAT


def old_model(opset):
    """Each weight is an input, too, as IR 3 wanted it; Clip and Upsample have their old forms."""
    constants = {
        "W": 0.3 * normal(1, 6, 3, 3, 3),
        "b": normal(2, 6),
        "scales": np.array([1, 1, 2, 2], dtype=np.float32),
        "V": 0.3 * normal(3, 4, 6),
        "d": normal(4, 4),
    }
    up = {"mode": "nearest"} | ({"scales": [1.0, 1.0, 2.0, 2.0]} if opset < 9 else {})
    nodes = [
        helper.make_node("Conv", ["x", "W", "b"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Clip", ["c"], ["k"], "relu6", min=0.0, max=6.0),
        helper.make_node("Upsample", ["k", "scales"] if opset >= 9 else ["k"], ["u"], "up", **up),
        helper.make_node("Dropout", ["u"], ["o"], "drop", ratio=0.3),
        helper.make_node("GlobalAveragePool", ["o"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "V", "d"], ["y"], "fc", transB=1),
    ]
    if opset < 9:
        del constants["scales"]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inputs = [("x", ["n", 3, 8, 8]), *((t.name, list(t.dims)) for t in tensors)]
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 4])],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=3)


@pytest.mark.parametrize("opset", [7, 8, 9])
def test_an_old_model_with_its_weights_as_inputs_runs_in_int8(opset, tmp_path):
    proto = old_model(opset)
    x = normal(5, 4, 3, 8, 8)
    (wanted,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    graph = loaded(proto, tmp_path)
    assert [value.name for value in graph.graph.inputs] == ["x"]
    selection = select(graph, ALL)
    assert {site.op_type for site in selection.weights} == {"Conv", "Gemm"}
    amax = dict.fromkeys(selection.activation_tensors, 6.0)
    for variant, share in ((graph, 1e-9), (insert_qdq(graph, selection, amax), 1e-2)):
        written = ir.to_proto(variant)
        onnx.checker.check_model(written, full_check=True)
        session = ort.InferenceSession(written.SerializeToString())
        (found,) = session.run(None, {"x": x})
        assert np.square(found - wanted).sum() <= share * np.square(wanted).sum()


@pytest.mark.parametrize("batch", [-1, 0])
def test_a_batch_of_minus_one_or_none_is_a_dynamic_one(batch, tmp_path):
    proto = old_model(9)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(proto, tmp_path / "m.onnx")
    shape = load_model(tmp_path / "m.onnx").record.inputs[0].shape
    assert shape == ("?", 3, 8, 8)
