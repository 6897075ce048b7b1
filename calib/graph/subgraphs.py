"""Nodes that hold graphs of their own: If, Loop and Scan."""

from collections.abc import Iterator

import onnx_ir as ir


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node holds, not those inside them."""
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def holds_graphs(node: ir.Node) -> bool:
    """Whether it is control flow."""
    return any(True for _ in inner_graphs(node))


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """Every node of its graphs, at any depth."""
    for graph in inner_graphs(node):
        yield from graph.all_nodes()


def outer_uses(node: ir.Node) -> Iterator[tuple[ir.Node, int, ir.Value]]:
    """(reader, index, value) for each value from outside that the node, or one inside it, reads."""
    inside = list(inner_nodes(node))
    own = {id(value) for inner in inside for value in inner.outputs}
    for holder in (node, *inside):
        for graph in inner_graphs(holder):
            own.update(id(v) for v in (*graph.inputs, *graph.initializers.values()))
    for reader in (node, *inside):
        for index, value in enumerate(reader.inputs):
            if value is not None and id(value) not in own:
                yield reader, index, value
