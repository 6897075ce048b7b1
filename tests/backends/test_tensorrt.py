"""Real TensorRT-RTX engines, built without a GPU: what each node ran in, and what goes wrong."""

import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import models
import onnx
import pytest
from small import ROOT

from calib.backends.precision import (
    int8_macs_pct,
    layers_from_dump,
    layers_from_inspector,
    node_precisions,
)
from calib.backends.tensorrt_build import BuildRequest, build_engine
from calib.backends.tensorrt_worker import BuildError, check_calibration
from calib.errors import BackendError
from calib.graph.fold import fold_batchnorm
from calib.graph.fp16 import to_fp16
from calib.graph.load import load_model
from calib.graph.macs import macs_by_node, weighted_nodes
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec

FIXTURES = ROOT / "tests" / "fixtures"
rtx = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import tensorrt_rtx"], capture_output=True).returncode,
    reason="tensorrt_rtx_cu13 is not installed",
)
TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def text_profile(longest):
    return dict.fromkeys(TOKENS, ((1, 4), (4, longest // 2), (8, longest)))


@cache
def example(name):
    """(path of the FP32 model, profile)."""
    os.chdir(ROOT)
    if name == "textline":
        from examples import textline

        return textline.model().resolve(), {
            "x": ((1, 3, 48, 192), (8, 3, 48, 192), (32, 3, 48, 192))
        }
    if name == "minilm":
        from examples import minilm

        return minilm.build(max_length=16, head_documents=200).resolve(), text_profile(64)
    if name.startswith("bert"):
        return FIXTURES / f"{name}.onnx", text_profile(16)
    return FIXTURES / f"{name}.onnx", {"x": ((1, 3, 24, 24), (4, 3, 24, 24), (8, 3, 24, 24))}


def candidate(graph, precision):
    """(graph of the candidate, nodes that read INT8)."""
    selection = select(graph, SelectionSpec())
    amax = dict.fromkeys(selection.activation_tensors, 4.0)
    match precision:
        case "fp16":
            return to_fp16(graph)[0], frozenset()
        case "int8+fp32":
            return insert_qdq(graph, selection, amax), selection.quantized_nodes
        case "int8+fp16":
            return to_fp16(insert_qdq(graph, selection, amax))[0], selection.quantized_nodes
        case _:
            return graph, frozenset()


def build(model, profile, folder, target="8.9", **settings):
    request = BuildRequest("tensorrt_rtx", str(model), profile, target, **settings)
    return build_engine(request, folder, 300, lambda _: None)


def nodes_of(graph, quantized, profile, folder):
    layers = layers_from_dump((folder / "layers.txt").read_text())
    weighted = weighted_nodes(graph)
    macs = macs_by_node(graph, {name: shapes[1] for name, shapes in profile.items()})
    return node_precisions(layers, weighted, frozenset(quantized & weighted.keys()), macs)


# A 1x1 convolution of 2 into 8 channels that the builder folds into a pointwise layer, unnamed.
ABSORBED = {("textline", "fp16"): {"Conv@4"}}
NARROW_HEAD = {"bert_legacy", "bert_dynamo", "textline"}


@rtx
@pytest.mark.parametrize("target", ["8.6", "8.9"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8+fp32", "int8+fp16"])
@pytest.mark.parametrize(
    "name", ["minilm", "textline", "bert_legacy", "bert_dynamo", "cnn_legacy", "cnn_dynamo"]
)
def test_every_candidate_builds_and_every_quantized_node_runs_in_int8(
    tmp_path, name, precision, target
):
    path, profile = example(name)
    base = fold_batchnorm(load_model(path).graph)
    graph, quantized = candidate(base, precision)
    save_model(graph, tmp_path / "m.onnx")
    facts = build(tmp_path / "m.onnx", profile, tmp_path, target)
    nodes = nodes_of(base, quantized, profile, tmp_path)
    assert facts["weights_bytes"] > 0
    assert all(node.macs for node in nodes)
    if not precision.startswith("int8"):
        unnamed = {node.node for node in nodes if node.ran is None}
        assert unnamed <= ABSORBED.get((name, precision), set())
        assert {node.ran for node in nodes} - {None} == {precision}
        assert int8_macs_pct(nodes) == 0
        return
    asked = [node for node in nodes if node.asked == "int8"]
    assert {node.node: node.ran for node in asked if node.ran != "int8"} == {}
    left = [node.node for node in nodes if node.asked != "int8"]
    assert len(left) == (1 if name in NARROW_HEAD else 0), left
    assert int8_macs_pct(nodes) > 99


@rtx
@pytest.mark.parametrize("opset", [13, 17, 19, 21, 23, 26])
def test_quantized_graphs_of_every_opset_build(tmp_path, opset):
    proto = models.mlp()
    proto.opset_import[0].version = opset
    proto.ir_version = {23: 11, 26: 13}.get(opset, 10)
    onnx.save(proto, tmp_path / "base.onnx")
    base = load_model(tmp_path / "base.onnx").graph
    profile = {"x": ((1, 32), (8, 32), (16, 32))}
    for number, precision in enumerate(("int8+fp32", "int8+fp16", "fp16")):
        graph, quantized = candidate(base, precision)
        folder = tmp_path / str(number)
        folder.mkdir()
        save_model(graph, folder / "m.onnx")
        build(folder / "m.onnx", profile, folder)
        ran = {node.ran for node in nodes_of(base, quantized, profile, folder)}
        assert ran == ({"int8"} if "int8" in precision else {"fp16"})


@rtx
def test_a_model_that_the_parser_refuses_is_one_error_that_names_the_node(tmp_path):
    node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"], name="strange")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [info("x", 1, ["n", 4])], [info("y", 1, ["n", 4])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(BackendError, match="strange"):
        build(tmp_path / "m.onnx", {"x": ((1, 4), (1, 4), (2, 4))}, tmp_path)
    assert (tmp_path / "build.log").is_file()


@rtx
def test_a_profile_that_contradicts_the_model_is_the_builders_own_error(tmp_path):
    onnx.save(models.mlp(), tmp_path / "m.onnx")
    with pytest.raises(BackendError, match="failed"):
        build(tmp_path / "m.onnx", {"x": ((1, 31), (1, 31), (2, 31))}, tmp_path)


@rtx
def test_a_build_that_takes_too_long_is_stopped(tmp_path):
    onnx.save(models.mlp(), tmp_path / "m.onnx")
    request = BuildRequest("tensorrt_rtx", str(tmp_path / "m.onnx"), {}, "8.9")
    begin = time.monotonic()
    with pytest.raises(BackendError, match=r"took more than 0\.05 s"):
        build_engine(request, tmp_path, 0.05, lambda _: None)
    assert time.monotonic() - begin < 30


def test_a_builder_that_takes_its_process_along_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text(
        "import os, sys\nsys.stderr.write('boom\\n'); sys.stderr.flush(); os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    request = BuildRequest("dying", "m.onnx", {})
    with pytest.raises(BackendError, match=r"process ended with code -6.*boom"):
        build_engine(request, tmp_path, 60, lambda _: None)


def test_macs_are_those_of_the_formulas(tmp_path):
    onnx.save(models.residual_cnn(), tmp_path / "c.onnx")
    cnn = load_model(tmp_path / "c.onnx").graph
    assert macs_by_node(cnn, {"x": (2, 3, 8, 8)}) == {
        "conv1": 2 * 16 * 8 * 8 * 3 * 9,
        "conv2": 2 * 16 * 8 * 8 * 16 * 9,
    }
    onnx.save(models.transformer_block(), tmp_path / "t.onnx")
    block = load_model(tmp_path / "t.onnx").graph
    found = macs_by_node(block, {"x": (2, 5, 32)})
    assert found["query"] == 2 * 5 * 32 * 32
    assert found["scores"] == found["mix"] == 2 * 5 * 5 * 32


@pytest.mark.parametrize(
    "layer",
    [
        {  # TensorRT 10 and 11
            "Name": "fc1 + relu",
            "LayerType": "gemm",
            "Inputs": [{"Name": "x", "Datatype": "Int8", "Format": "Row major"}],
            "Outputs": [{"Name": "y", "Datatype": "Half", "Format": "Row major"}],
            "TacticName": "t",
            "Metadata": "[ONNX Layer: fc1]\x1e[ONNX Layer: relu]",
        },
        {  # TensorRT 8.6
            "Name": "fc1 + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized Int8 format"}
            ],
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            "TacticName": "t",
            "Metadata": "[ONNX Layer: fc1][ONNX Layer: relu]",
        },
    ],
    ids=["10", "8.6"],
)
def test_both_dialects_of_the_inspector_are_read(layer):
    import json

    (found,) = layers_from_inspector(json.dumps({"Layers": [layer], "Bindings": ["x"]}))
    assert found.nodes == ("fc1", "relu")
    assert (found.precision, found.output_types) == ("int8", ("fp16",))
    assert layers_from_inspector('{"Layers": ["fc1"], "I/O Tensors": []}') == ()


def test_a_node_that_got_something_else_is_told_with_the_likely_cause():
    dump = Path(__file__).parent / "layers_one_sided.txt"
    layers = layers_from_dump(dump.read_text(encoding="utf-8"))
    (node,) = node_precisions(
        layers, {"product": "MatMul"}, frozenset({"product"}), {"product": 10}
    )
    assert node.ran == "fp32"
    assert node.cause
    (lost,) = node_precisions(layers, {"gone": "MatMul"}, frozenset({"gone"}), {})
    assert lost.ran is None
    assert "no layer" in lost.cause
    assert int8_macs_pct([node]) == 0
    assert int8_macs_pct([lost]) is None


class Calibrated:
    """How a native calibration went."""

    def __init__(self, samples=0, error=None, asked_for_data=False):
        self.samples, self.error, self.asked_for_data = samples, error, asked_for_data


@pytest.mark.parametrize(
    ("calibrator", "request_", "said"),
    [
        (Calibrated(error=ValueError("sample s7")), {}, "calibration broke off: sample s7"),
        (Calibrated(samples=90), {"calibration_samples": 100}, "saw 90 of 100 samples"),
        (Calibrated(asked_for_data=True), {"calibration_cache": "c"}, "did not accept"),
    ],
)
def test_an_engine_whose_calibration_broke_off_is_refused(calibrator, request_, said):
    with pytest.raises(BuildError, match=said):
        check_calibration(calibrator, request_)


def test_a_whole_calibration_and_none_at_all_are_accepted():
    check_calibration(None, {})
    check_calibration(Calibrated(samples=100), {"calibration_samples": 100})
    check_calibration(Calibrated(), {"calibration_cache": "c"})


@rtx
def test_an_interrupt_takes_the_builder_along(tmp_path):
    onnx.save(models.mlp(), tmp_path / "m.onnx")
    request = BuildRequest("tensorrt_rtx", str(tmp_path / "m.onnx"), {"x": ((1, 32),) * 3}, "8.9")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(request, tmp_path, 60, interrupt)
    assert not (tmp_path / "result.json").exists()
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False)
    assert str(tmp_path) not in listed.stdout
