"""Weights beside the model, in any folder below it: every copy that is written can be read."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from layer_models import ALL, normal, one_layer

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
