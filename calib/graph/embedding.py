"""Embedding tables: how many token ids a model knows."""

import onnx_ir as ir


def embedding_rows(model: ir.Model) -> dict[str, int]:
    """Rows of the table that each integer model input indexes, by input name."""
    rows = {}
    for value in model.graph.inputs:
        for use in value.uses():
            table = use.node.inputs[0] if use.node.op_type == "Gather" and use.idx == 1 else None
            if table is not None and table.const_value is not None and value.name:
                rows[value.name] = len(table.const_value.numpy())
    return rows
