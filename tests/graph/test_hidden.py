"""Where alike samples lie close to each other."""

import models
import onnx_ir as ir
import pytest

from calib.graph.hidden import Hidden, last_hidden


@pytest.mark.parametrize(
    ("model", "output", "expected"),
    [
        (models.mlp(), "logits", Hidden("h3", -1)),
        (models.conv_chain(8, 8), "y", Hidden("r0", 1)),
        (models.residual_cnn(), "y", Hidden("r1", 1)),
        (models.transformer_block(), "y", Hidden("mixed", -1)),
        (models.bag_of_words(5), "logits", Hidden("mean", -1)),
    ],
)
def test_it_is_what_the_last_operator_with_weights_reads(model, output, expected):
    assert last_hidden(ir.from_proto(model), output) == expected
