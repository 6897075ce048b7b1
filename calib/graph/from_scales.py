"""Explicit Q/DQ from scales that somebody else found."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

from calib.graph.select import Selection


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a set of scales covers a selection.

    Attributes:
        selection: what can be quantized with these scales.
        matched: selected tensors with a scale, in graph order.
        lacking: by tensor without one, the nodes that stay in float for it.
        elsewhere: names of other tensors of the graph, which the selection does not ask for.
        unknown: names that are no tensor of the graph.
    """

    selection: Selection
    matched: tuple[str, ...]
    lacking: dict[str, tuple[str, ...]]
    elsewhere: tuple[str, ...]
    unknown: tuple[str, ...]


def cover(model: ir.Model, selection: Selection, scaled: Iterable[str]) -> Coverage:
    """What of a selection these tensors' scales suffice for; a node is quantized whole or not."""
    scaled = list(dict.fromkeys(scaled))
    known = set(scaled)
    lacking: dict[str, list[str]] = {}
    for site in selection.activations:
        if site.tensor not in known:
            lacking.setdefault(site.tensor, []).append(site.node)
    floats = {node for nodes in lacking.values() for node in nodes}
    kept = replace(
        selection,
        activations=tuple(s for s in selection.activations if s.node not in floats),
        weights=tuple(s for s in selection.weights if s.node not in floats),
    )
    wanted = set(selection.activation_tensors)
    present = {str(v.name) for v in model.graph.inputs} | {
        str(v.name) for node in model.graph.all_nodes() for v in node.outputs
    }
    return Coverage(
        selection=kept,
        matched=tuple(name for name in selection.activation_tensors if name in known),
        lacking={name: tuple(nodes) for name, nodes in lacking.items()},
        elsewhere=tuple(n for n in scaled if n in present and n not in wanted),
        unknown=tuple(n for n in scaled if n not in present),
    )
