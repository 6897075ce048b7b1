"""uint8 with zero point 128 is int8 under another name."""

import models
import numpy as np
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, ort_run

from calib.graph.fp16 import to_fp16
from calib.graph.qdq import insert_qdq
from calib.graph.select import select
from calib.graph.unsigned import with_unsigned_activations


@pytest.fixture(params=[models.mlp, models.residual_cnn], ids=lambda make: make.__name__)
def quantized(request, tmp_path):
    graph = loaded(request.param(), tmp_path)
    selection = select(graph, ALL)
    # Small enough that values are clipped at both ends.
    return insert_qdq(graph, selection, dict.fromkeys(selection.activation_tensors, 0.7))


def feeds(model):
    (value,) = model.graph.inputs
    shape = [6 if not isinstance(size, int) else size for size in value.shape]
    return {value.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def test_the_model_computes_the_same_to_the_bit(quantized):
    unsigned = with_unsigned_activations(quantized)
    wanted, found = (ort_run(model, feeds(quantized)) for model in (quantized, unsigned))
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_activations_are_unsigned_and_weights_are_not(quantized):
    kinds = {
        node.name: (node.inputs[2].dtype, node.inputs[0].const_value is None)
        for node in with_unsigned_activations(quantized).graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    assert {dtype for dtype, is_activation in kinds.values() if is_activation} == {
        ir.DataType.UINT8
    }
    assert {dtype for dtype, is_activation in kinds.values() if not is_activation} == {
        ir.DataType.INT8
    }


def test_the_rest_may_be_fp16(quantized):
    half, _ = to_fp16(quantized)
    wanted, found = (
        ort_run(model, feeds(quantized)) for model in (half, with_unsigned_activations(half))
    )
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_codes_that_the_model_shows_stay_signed(quantized):
    model = quantized.clone()
    codes = next(n for n in model.graph if n.op_type == "QuantizeLinear").outputs[0]
    model.graph.outputs.append(codes)
    found = with_unsigned_activations(model)
    assert found.graph.outputs[-1].dtype is ir.DataType.INT8
