"""FP16, BF16 and mixed models: the reference is what was given, INT8 comes from an FP32 copy."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import loaded, normal
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from whole_runs import finished, reasons, signature, sqnr_db, written

from calib.errors import DataError
from calib.graph.load import load_model

HALF, BRAIN, FLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT
NUMPY = {HALF: np.float16, BRAIN: ml_dtypes.bfloat16, FLOAT: np.float32}


def net(kind, ends=None):
    """Convolution, ReLU, pool, a scale made by ConstantOfShape, and a head, all of one type."""
    ends = ends or kind
    constants = {
        "w": (0.3 * normal(1, 8, 3, 3, 3)).astype(NUMPY[kind]),
        "b": normal(2, 8).astype(NUMPY[kind]),
        "v": (0.3 * normal(3, 8, 5)).astype(NUMPY[kind]),
        "one": np.array([1], dtype=np.int64),
    }
    scale = numpy_helper.from_array(np.array([0.5], dtype=NUMPY[kind]), "value")
    nodes = [
        helper.make_node("Cast", ["x"], ["x_in"], "first", to=kind),
        helper.make_node("Conv", ["x_in", "w", "b"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("ConstantOfShape", ["one"], ["scale"], "fill", value=scale),
        helper.make_node("Mul", ["f", "scale"], ["s"], "scaled"),
        helper.make_node("MatMul", ["s", "v"], ["h"], "head"),
        helper.make_node("Cast", ["h"], ["y"], "last", to=ends),
    ]
    if ends == kind:
        nodes = [n for n in nodes if n.op_type != "Cast"]
        nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    return made(nodes, [("x", ends, ["n", 3, 8, 8])], [("y", ends, ["n", 5])], constants)


def made(nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        "low",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def lowest(graph):
    values = [v for node in graph.graph.all_nodes() for v in node.outputs]
    return {
        str(v.name)
        for v in (*values, *graph.graph.initializers.values())
        if v.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    }


@pytest.mark.parametrize("kind", [HALF, BRAIN])
def test_the_copy_is_float32_inside_and_computes_the_same(kind, tmp_path):
    proto = net(kind)
    graph = loaded(proto, tmp_path)
    assert lowest(graph) == {"y"}
    x = normal(4, 4, 3, 8, 8).astype(NUMPY[kind])
    # The same constants, in float32 from the start.
    exact = net(FLOAT)
    for tensor in exact.graph.initializer:
        if tensor.data_type == FLOAT:
            narrow = numpy_helper.to_array(tensor).astype(NUMPY[kind]).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    (wanted,) = ReferenceEvaluator(exact).run(None, {"x": x.astype(np.float32)})
    (found,) = ReferenceEvaluator(ir.to_proto(graph)).run(None, {"x": x})
    assert found.dtype == NUMPY[kind]
    np.testing.assert_array_max_ulp(
        found.astype(np.float32), wanted.astype(NUMPY[kind]).astype(np.float32), 2**16
    )


@pytest.mark.parametrize("given", [np.float16, np.float32])
def test_an_fp16_model_is_its_own_reference(given, tmp_path):
    proto = net(HALF)
    run = finished(proto, {"x": normal(5, 24, 3, 8, 8).astype(given)}, tmp_path)
    model = run.result.model
    assert model.precision == "fp16"
    assert any(
        "the reference" in w and "FP16: the file as it was given" in w for w in model.warnings
    )
    assert run.result.reference.model_path == str(tmp_path / "model.onnx")
    ends = signature(tmp_path / "model.onnx")
    for name in ("fp16", "int8-minmax"):
        assert signature(written(run, name)) == ends
    assert sqnr_db(run, "fp16") > 50
    assert sqnr_db(run) > 25
    assert {a.tensor for a in run.result.calibration.activations} == {"x_fp32", "s"}
    casts = run.result.data.validation.casts
    assert casts == (
        {} if given is np.float16 else {"x": "float32 to float16, each value to the nearest"}
    )


def test_a_bf16_model_that_the_runtime_cannot_run_is_judged_by_its_copy(tmp_path):
    run = finished(net(BRAIN), {"x": normal(6, 24, 3, 8, 8)}, tmp_path)
    model = run.result.model
    assert model.precision == "bf16"
    assert model.inputs[0].dtype == "bfloat16"
    assert any("the reference" in w and "FP32 copy" in w and "BF16" in w for w in model.warnings)
    for name in ("fp16", "int8-minmax"):
        assert signature(written(run, name)) == (
            [("x", "tensor(bfloat16)")],
            [("y", "tensor(bfloat16)")],
        )
    assert sqnr_db(run) > 25


def test_a_model_with_casts_between_types_is_mixed_and_quantized_whole(tmp_path):
    constants = {
        "w": (0.3 * normal(1, 16, 12)).astype(np.float16),
        "v": 0.3 * normal(2, 12, 12),
        "u": (0.3 * normal(3, 12, 4)).astype(np.float16),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["xh"], to=HALF),
        helper.make_node("MatMul", ["xh", "w"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["ar"]),
        helper.make_node("Cast", ["ar"], ["af"], to=FLOAT),
        helper.make_node("MatMul", ["af", "v"], ["b"], "two"),
        helper.make_node("Softmax", ["b"], ["s"]),
        helper.make_node("Cast", ["s"], ["sh"], to=HALF),
        helper.make_node("MatMul", ["sh", "u"], ["y"], "three"),
    ]
    proto = made(nodes, [("x", FLOAT, ["n", 16])], [("y", HALF, ["n", 4])], constants)
    run = finished(proto, {"x": normal(7, 32, 16)}, tmp_path)
    assert run.result.model.precision == "mixed"
    assert {w.node for w in run.result.calibration.weights} == {"one", "two", "three"}
    assert signature(written(run)) == signature(tmp_path / "model.onnx")
    assert sqnr_db(run) > 25
    assert "on float16" not in str(reasons(run))


def test_fp16_only_as_storage_is_an_fp32_model(tmp_path):
    nodes = [
        helper.make_node("Cast", ["w"], ["wf"], to=FLOAT),
        helper.make_node("MatMul", ["x", "wf"], ["y"], "one"),
    ]
    proto = made(
        nodes,
        [("x", FLOAT, ["n", 16])],
        [("y", FLOAT, ["n", 4])],
        {"w": normal(1, 16, 4).astype(np.float16)},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    record = load_model(path).record
    assert record.precision == "fp32"
    assert not record.warnings


def test_float32_data_beyond_fp16_is_refused_by_its_sample(tmp_path):
    x = normal(8, 8, 3, 8, 8)
    x[3, 0, 0, 0] = 1e6
    with pytest.raises(DataError, match=r"row-000003.*float16"):
        finished(net(HALF), {"x": x}, tmp_path)


@pytest.mark.parametrize("kind", [HALF, BRAIN])
def test_remedies_are_held_against_the_copy(kind, tmp_path):
    """Against FP16 itself the rewritten model would seem another one, and would not be used."""
    x = {"x": normal(5, 64, 3, 8, 8)}
    speed = {"batch_sizes": [2], "runs": 2}
    run = finished(net(kind), x, tmp_path, quantization="auto", throughput=speed)
    remedies = run.result.remedies
    assert remedies.equality_db is None or remedies.equality_db > 80
    assert not remedies.warnings
    assert sqnr_db(run) > 35
    assert all(c.latency and c.peak_memory_bytes for c in run.result.candidates)
