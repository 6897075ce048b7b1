"""Where a model's outputs are compared: before what saturates or only picks."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from calib.graph.taps import LAYOUT_OPS

_SAME_VALUES = LAYOUT_OPS | {"Cast"}
_PICKS = frozenset(["ArgMax", "ArgMin", "TopK"])
_SOFTMAX = frozenset(["Softmax", "LogSoftmax"])


@dataclass(frozen=True, slots=True)
class Score:
    """A tensor that stands for an output.

    Attributes:
        tensor: its name.
        axis: along which a constant means nothing, as before a Softmax; None elsewhere.
    """

    tensor: str
    axis: int | None = None


def scores_from_model(model: ir.Model) -> Mapping[str, Score]:
    """What to compare for each output, by output.

    An error behind a Softmax is that of the few samples near a decision: a few hundred of them say
    by chance which variant is better. The logits say it with every sample. Outputs that are float
    and no such function stand for themselves; others that are not float are left out.
    """
    found = {}
    for output in model.graph.outputs:
        score = _score(output)
        if score is not None:
            found[str(output.name)] = score
    return found


def _score(output: ir.Value) -> Score | None:
    value, axis, stands = output, None, output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _SOFTMAX:
            attribute = node.attributes.get("axis")
            value = stands = node.inputs[0]
            axis = attribute.as_int() if attribute is not None else -1
            break
        if node.op_type in _PICKS:
            value = stands = node.inputs[0]
        elif node.op_type in _SAME_VALUES:
            value = node.inputs[0]
        else:
            break
    if stands.dtype is None or not stands.dtype.is_floating_point() or stands.producer() is None:
        if output.dtype is None or not output.dtype.is_floating_point():
            return None
        return Score(str(output.name))
    return Score(str(stands.name), axis)
