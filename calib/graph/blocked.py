"""Outputs in the layout that ONNX Runtime computes them in.

On a CPU it computes convolutions on blocks of channels (NCHWc) and puts whatever leaves the model
back in order with a ReorderOutput. Of a tapped net that is every activation, read and written once
more for somebody who only counts the values.
"""

from collections.abc import Collection
from pathlib import Path

import onnx_ir as ir

_LARGEST_BLOCK = 16
"""Channels a block: 16 with AVX-512 and on Arm, 8 below. A last block that is not full holds zeros
of nobody's, so only multiples of this are left as they are."""


def has_convolution(model: ir.Model) -> bool:
    """Whether anything of the model is computed on blocks of channels."""
    return any(node.op_type == "Conv" for node in model.graph)


def leave_in_blocks(path: Path, keep: Collection[str]) -> bool:
    """Rewrite a model so that outputs are not put back in order; whether that is of any output.

    Each of them holds the same values with the same first axis. Only an engine that does not
    optimize again runs it.

    Args:
        path: a file that ONNX Runtime wrote after optimizing.
        keep: outputs to leave as they are: those whose other axes mean something to the reader.
    """
    model = ir.load(path)
    outputs = model.graph.outputs
    changed = False
    for node in list(model.graph):
        output = node.outputs[0]
        if node.op_type != "ReorderOutput" or output.name in keep or not _is_only_read(output):
            continue
        source = node.inputs[0]
        full = node.attributes.get_int("channels", 1) % _LARGEST_BLOCK == 0
        if source is None or source in outputs or not full:
            continue
        outputs[list(outputs).index(output)] = source
        model.graph.remove(node, safe=True)
        source.name, source.type, source.shape = output.name, output.type, None
        changed = True
    if changed:
        ir.save(model, path)
    return changed


def _is_only_read(value: ir.Value) -> bool:
    return value.is_graph_output() and not value.uses()
