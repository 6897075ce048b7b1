"""Graphs as PyTorch's two exporters write them, held against PyTorch's own outputs."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from calib.calibrators import MinMaxSpec, amax_from_statistics, statistics_from_array
from calib.graph.embedding import embedding_rows
from calib.graph.fold import fold_batchnorm
from calib.graph.fp16 import to_fp16
from calib.graph.load import load_model
from calib.graph.qdq import insert_qdq
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.taps import tapped

FIXTURES = Path(__file__).parent.parent / "fixtures"
EXPORTS = ["bert_legacy", "bert_dynamo", "cnn_legacy", "cnn_dynamo"]


def case(name):
    """(graph as candidates are made from it, inputs, PyTorch's logits)."""
    graph = fold_batchnorm(load_model(FIXTURES / f"{name}.onnx").graph)
    arrays = dict(np.load(FIXTURES / f"{name.split('_')[0]}.npz"))
    logits = arrays.pop("logits")
    return graph, arrays, logits


def run(graph, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Without it, a core that has no VNNI lets products of 8-bit integers overflow.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def sqnr(expected, got):
    return 10 * np.log10(np.sum(expected**2.0) / np.sum((expected - got.astype(np.float64)) ** 2))


@pytest.mark.parametrize("name", EXPORTS)
def test_the_normalised_graph_computes_what_pytorch_does(name):
    graph, feeds, logits = case(name)
    np.testing.assert_allclose(run(graph, feeds)["logits"], logits, rtol=1e-4, atol=1e-5)
    assert "BatchNormalization" not in {node.op_type for node in graph.graph}
    assert all(node.name for node in graph.graph)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_batch_of_another_size_and_length_runs(name):
    graph, feeds, logits = case(name)
    one = {key: value[:1] for key, value in feeds.items()}
    if name.startswith("bert"):
        padded = {key: np.pad(value, ((0, 0), (0, 3))) for key, value in one.items()}
        np.testing.assert_allclose(run(graph, padded)["logits"], logits[:1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run(graph, one)["logits"], logits[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "weights", "products"),
    [
        # Six dense layers in each of two blocks and the pooler; the 5-class head is too narrow.
        ("bert", 13, 4),
        # Stem, two in the branch, depthwise, pointwise, and the head.
        ("cnn", 6, 0),
    ],
)
def test_both_exporters_lead_to_the_same_selection(model, weights, products):
    for exporter in ("legacy", "dynamo"):
        graph, *_ = case(f"{model}_{exporter}")
        selection = select(graph, SelectionSpec())
        assert len(selection.weights) == weights
        readers = {}
        for site in selection.activations:
            readers.setdefault((site.op_type, site.node), []).append(site.index)
        both = [
            node for (kind, node), index in readers.items() if kind == "MatMul" and len(index) == 2
        ]
        assert len(both) == products
        skips = [node for kind, node in readers if kind == "Add"]
        assert len(skips) == (1 if model == "cnn" else 0)
        assert len({site.node for site in selection.weights}) == weights


@pytest.mark.parametrize("name", EXPORTS)
def test_int8_and_fp16_stay_close_to_pytorch(name):
    graph, feeds, logits = case(name)
    selection = select(graph, SelectionSpec())
    computed = [t for t in selection.activation_tensors if t not in feeds]
    values = {**feeds, **run(tapped(graph, computed), feeds)}
    amax = {
        tensor: amax_from_statistics(MinMaxSpec(), statistics_from_array(tensor, values[tensor]))
        for tensor in selection.activation_tensors
    }
    quantized = insert_qdq(graph, selection, amax)
    assert sqnr(logits, run(quantized, feeds)["logits"]) > 20
    half, warnings = to_fp16(graph)
    assert sqnr(logits, run(half, feeds)["logits"]) > 45
    both, _ = to_fp16(quantized)
    assert sqnr(logits, run(both, feeds)["logits"]) > 20
    assert all("clamped" in warning for warning in warnings)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_the_vocabulary_is_read_off_the_embedding(exporter):
    graph, *_ = case(f"bert_{exporter}")
    assert embedding_rows(graph)["input_ids"] == 120
