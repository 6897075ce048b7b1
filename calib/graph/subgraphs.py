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
