"""Writing a model so that every runtime reads it."""

from pathlib import Path

import onnx_ir as ir

_PROTOBUF_LIMIT_BYTES = 1_900_000_000


def save_model(model: ir.Model, path: Path) -> None:
    """Write a model; beyond protobuf's 2 GB its weights go to `<name>.data` beside it."""
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if size > _PROTOBUF_LIMIT_BYTES:
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        ir.save(model, path)
