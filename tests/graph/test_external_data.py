"""Weights beside the model, in any folder below it: every copy that is written can be read."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import ALL, normal, one_layer
from onnx import TensorProto, helper, numpy_helper

from calib.backends.process import own_peak_bytes
from calib.graph.load import load_model
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select


@pytest.mark.parametrize("location", ["weights.bin", "weights/deep/w.bin"])
@pytest.mark.parametrize("passing", [False, True])
def test_copies_elsewhere_hold_the_weights_and_the_source_is_left_alone(
    location, passing, tmp_path
):
    source = tmp_path / "source" / "model.onnx"
    (source.parent / location).parent.mkdir(parents=True)
    proto = one_layer("Gemm", 2, normal(1, 64, 32), normal(2, 32))
    onnx.save(proto, source, save_as_external_data=True, location=location, size_threshold=0)
    before = {p: p.read_bytes() for p in source.parent.rglob("*") if p.is_file()}
    assert len(before) == 2
    x = normal(3, 4, 64)
    (wanted,) = ort.InferenceSession(str(source)).run(None, {"x": x})
    graph = load_model(source).graph
    selection = select(graph, ALL)
    quantized = insert_qdq(graph, selection, dict.fromkeys(selection.activation_tensors, 4.0))
    (tmp_path / "elsewhere").mkdir()
    for name, variant, share in (("plain", graph, 1e-9), ("int8", quantized, 1e-2)):
        path = tmp_path / "elsewhere" / f"{name}.onnx"
        save_model(variant, path, passing=passing)
        (found,) = ort.InferenceSession(str(path)).run(None, {"x": x})
        assert np.square(found - wanted).sum() <= share * np.square(wanted).sum()
    assert before == {p: p.read_bytes() for p in source.parent.rglob("*") if p.is_file()}


@pytest.mark.parametrize("opset", [11, 17])
def test_a_model_beyond_2_gb_is_read_and_quantized_without_holding_it(opset, tmp_path):
    """A table of 2.2 GB (a hole in a file), looked up, and a product behind it."""
    rows, width = 550_000, 1024
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "lookup"),
        helper.make_node("MatMul", ["e", "w"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6, 32])],
        [numpy_helper.from_array(normal(1, width, 32), "w")],
    )
    table = graph.initializer.add(
        name="table",
        data_type=TensorProto.FLOAT,
        dims=[rows, width],
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", "deep/table.bin"), ("length", str(rows * width * 4))):
        table.external_data.add(key=key, value=value)
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    data = tmp_path / "deep" / "table.bin"
    data.parent.mkdir()
    with data.open("wb") as file:
        file.truncate(rows * width * 4)
    before = own_peak_bytes()
    model = load_model(path)
    assert model.record.size_bytes > 2**31
    selection = select(model.graph, ALL)
    assert {site.tensor for site in selection.weights} == {"w"}
    quantized = insert_qdq(model.graph, selection, {"e": 4.0})
    # The file is mapped: what is read of it once belongs to nobody.
    assert own_peak_bytes() - before < 1e9
    held = quantized.graph.initializers["table"].const_value
    assert isinstance(held, ir.ExternalTensor)
