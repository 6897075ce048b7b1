"""Every operator that ONNX defines, in its own test case, beside a layer that is quantized."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from layer_models import ALL
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from calib.errors import ModelError
from calib.graph.fp16 import to_fp16
from calib.graph.load import load_model
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select

NEWEST_OPSET = 25


def first_of_each_operator():
    """One case an operator whose inputs and outputs are tensors."""
    found = {}
    for case in collect_testcases(None):
        graph, opsets = case.model.graph, {o.domain: o.version for o in case.model.opset_import}
        values = [*graph.input, *graph.output]
        if "" not in opsets or len(graph.node) != 1 or not case.data_sets:
            continue
        if all(v.type.HasField("tensor_type") for v in values):
            found.setdefault(graph.node[0].op_type, case)
    return found


CASES = first_of_each_operator()


def beside_a_layer(case):
    """The case's graph, with a MatMul of its own input and output next to it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = 10
    graph = model.graph
    for values, name in ((graph.input, "calib_x"), (graph.output, "calib_y")):
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]))
    graph.initializer.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), "calib_w"))
    graph.node.append(helper.make_node("MatMul", ["calib_x", "calib_w"], ["calib_y"], "layer"))
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = min(opset.version, NEWEST_OPSET)
    names = [value.name for value in case.model.graph.input]
    feeds = {n: np.asarray(a) for n, a in zip(names, case.data_sets[0][0], strict=False)}
    return model, {**feeds, "calib_x": np.ones((2, 8), np.float32)}


def run(path, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def is_close(found, wanted, share):
    wanted = np.asarray(wanted)
    if wanted.dtype.kind != "f" or not wanted.size or not np.isfinite(wanted).all():
        return True
    gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()
    return gap <= share * np.abs(wanted).max() + 1e-6


@pytest.mark.parametrize("operator", sorted(CASES))
def test_an_operator_survives_loading_fp16_and_int8_beside_it(operator, tmp_path):
    model, feeds = beside_a_layer(CASES[operator])
    onnx.save(model, tmp_path / "m.onnx")
    try:
        wanted = run(tmp_path / "m.onnx", feeds)
    except Exception as error:  # onnxruntime raises classes it does not export
        pytest.skip(f"onnxruntime does not run it: {str(error).splitlines()[0]}")
    try:
        graph = load_model(tmp_path / "m.onnx").graph
    except ModelError as error:
        pytest.skip(f"refused: {error.problem}")
    selection = select(graph, ALL)
    quantized = insert_qdq(graph, selection, dict.fromkeys(selection.activation_tensors, 1.0))
    half, _ = to_fp16(graph)
    for kind, variant, share in (
        ("same", graph, 1e-6),
        ("int8", quantized, 1e-6),
        ("fp16", half, 0.02),
    ):
        save_model(variant, tmp_path / f"{kind}.onnx")
        found = run(tmp_path / f"{kind}.onnx", feeds)
        assert list(found) == list(wanted)
        for name, array in found.items():
            assert array.dtype == wanted[name].dtype, (kind, name)
            sites = (*selection.weights, *selection.activations)
            is_int8 = kind == "int8" and any(site.op_type == operator for site in sites)
            alike = name == "calib_y" or not (_draws(operator) or is_int8)
            assert not alike or is_close(array, wanted[name], share), (kind, name)


def _draws(operator):
    """Whether its output is chance, or a choice that FP16 may change."""
    return operator.startswith("Random") or operator in ("Bernoulli", "Multinomial", "Dropout")
