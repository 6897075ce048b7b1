"""Which nodes go into INT8 together: what TensorRT fuses, or feeds from one tensor."""

from collections.abc import Mapping
from dataclasses import dataclass

from calib.graph.select import Selection


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that are quantized together.

    Attributes:
        name: of its first node.
        nodes: in graph order.
        tensors: activations that they read in INT8.
        macs: multiply-accumulates of all of them, in a sample.
    """

    name: str
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    macs: int


def groups_from_selection(
    selection: Selection, macs: Mapping[str, int], origin: Mapping[str, str] | None = None
) -> tuple[Group, ...]:
    """The selected nodes in groups: those whose first INT8 input is one tensor, an Add by itself.

    Query, key and value of an attention share one: TensorRT makes one product of them.

    Args:
        selection: what becomes INT8.
        macs: by node.
        origin: by activation, the one it was made from by a factor and a shift.
    """
    members: dict[tuple[str, str], list[str]] = {}
    tensors: dict[str, list[str]] = {}
    for site in selection.activations:
        tensors.setdefault(site.node, []).append((origin or {}).get(site.tensor, site.tensor))
        if len(tensors[site.node]) == 1:
            alone = site.node if site.op_type == "Add" else ""
            members.setdefault((tensors[site.node][0], alone), []).append(site.node)
    for site in selection.weights:
        if site.node not in tensors:
            # The model quantizes what it reads; only its weight becomes INT8 here.
            tensors[site.node] = []
            members["", site.node] = [site.node]
    return tuple(
        Group(
            nodes[0],
            tuple(nodes),
            tuple(dict.fromkeys(t for node in nodes for t in tensors[node])),
            sum(macs.get(node, 0) for node in nodes),
        )
        for nodes in members.values()
    )
