"""Which operator of an optimized graph runs a node of the graph that it was made from.

Most fused operators carry the name of the node that they took the place of. For the others: tensors
that both graphs have cut both into pieces, so what lies between such tensors in one graph is run by
what lies between the same ones in the other.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable

import onnx_ir as ir

from calib.graph.optimized import BLOCKED, WIDENED, Operator
from calib.graph.selection_spec import WEIGHTED_OPS

_ADDED = re.compile(r"(?:/\w*Fusion/?|/duplicated|_token_\d+)+$")
_NUMBER = re.compile(r"_\d+$")
_BLOCKED_NAME = re.compile(r"_nchwc(?:_token_\d+|_\d+)?$")


def matched(
    given: ir.Model, nodes: Collection[ir.Node], found: Iterable[Operator]
) -> dict[str, Operator]:
    """The operator that runs each node, by the node's name; absent where none can be told.

    Args:
        given: what the runtime was given.
        nodes: of its main graph, the ones that are looked for.
        found: the operators of the optimized graph.
    """
    outer = [one for one in found if not one.inner]
    wanted = {str(node.name): node for node in nodes}
    result = _by_name(given, wanted, outer)
    rest = {name: node for name, node in wanted.items() if name not in result}
    if rest:
        result.update(_by_place(given, rest, outer, taken=[one.node for one in result.values()]))
    return result


def _by_name(
    given: ir.Model, wanted: dict[str, ir.Node], outer: list[Operator]
) -> dict[str, Operator]:
    present = Counter(str(node.name) for node in given.graph)
    result: dict[str, Operator] = {}
    for one in outer:
        name = _original(str(one.node.name), present)
        if present[name] != 1 or name not in wanted or one.work == "conversion":
            continue
        if one.multiplies or wanted[name].op_type not in WEIGHTED_OPS:
            result.setdefault(name, one)
    return result


def _original(name: str, present: Collection[str]) -> str:
    """The name that a fusion added to."""
    name = name.removeprefix("fused ")
    for pattern in (_ADDED, _NUMBER):
        if name in present:
            return name
        name = pattern.sub("", name)
    return name


def _by_place(
    given: ir.Model, rest: dict[str, ir.Node], outer: list[Operator], taken: list[ir.Node]
) -> dict[str, Operator]:
    """For each node the only operator that multiplies between the tensors around it.

    Of several that are all alike, any: the answer is the same.
    """
    made = {str(value.name): value for node in given.graph for value in node.outputs}
    shared: dict[ir.Value, str] = {}
    for one in outer:
        for value in one.node.outputs:
            if (name := _tensor(value)) in made:
                shared[value] = name
    common = frozenset(shared.values())
    stops = {value for name, value in made.items() if name in common}
    by_node = {one.node: one for one in outer}
    result: dict[str, Operator] = {}
    for name in sorted(common):
        inside = _between([made[name]], stops)
        lost = [n for n, node in rest.items() if node in inside and n not in result]
        if not lost:
            continue
        ends = [value for value, tensor in shared.items() if tensor == name]
        kernels = [by_node[n] for n in _between(ends, shared) if n in by_node]
        kernels = [k for k in kernels if k.multiplies and k.node not in taken]
        if len({(k.kernel, k.precision, k.work) for k in kernels}) == 1:
            result.update(dict.fromkeys(lost, kernels[0]))
    return result


def _tensor(value: ir.Value) -> str:
    """The name that the tensor had before the runtime widened it or put it in blocks."""
    name = str(value.name)
    node = value.producer()
    if node is not None and node.domain == BLOCKED and node.op_type != "ReorderOutput":
        name = _BLOCKED_NAME.sub("", str(node.name))
    return name.removeprefix(WIDENED)


def _between(ends: Iterable[ir.Value], stops: Collection[ir.Value]) -> dict[ir.Node, None]:
    """The nodes that make these values out of the values at which to stop."""
    waiting = [node for value in ends if (node := value.producer()) is not None]
    seen: dict[ir.Node, None] = dict.fromkeys(waiting)
    while waiting:
        for value in waiting.pop().inputs:
            node = value.producer() if value is not None else None
            if node is not None and value not in stops and node not in seen:
                seen[node] = None
                waiting.append(node)
    return seen
