"""Writing a model so that every runtime reads it."""

from pathlib import Path

import onnx_ir as ir

_PROTOBUF_LIMIT_BYTES = 1_900_000_000
_PASSING_LIMIT_BYTES = 16_000_000
"""Written whole, a model is in memory three times: as a graph, as a message, and as its bytes."""


def save_model(model: ir.Model, path: Path, *, passing: bool = False) -> None:
    """Write a model; beyond protobuf's 2 GB its weights go to `<name>.data` beside it.

    Shapes of inner tensors are left out. We know more of them than a runtime infers by itself, and
    with them ONNX Runtime fuses what it does not fuse in the model as it was given: the Adds and
    LayerNormalizations of a BERT become SkipLayerNormalizations, which take twice as long on a CPU.
    A candidate would be slower than its reference for no reason of its own.

    Args:
        model: left as it is.
        path: of the ONNX file.
        passing: it is only read back here and now, so weights may lie beside it sooner.
    """
    model = model.clone()
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if size > (_PASSING_LIMIT_BYTES if passing else _PROTOBUF_LIMIT_BYTES):
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        # Weights that lie beside the source would be looked for beside the copy.
        ir.save(ir.external_data.load_to_model(model), path)
