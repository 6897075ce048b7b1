"""Graphs that no exporter would write: a mutation a function, each changes the model in place."""

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Model = onnx.ModelProto

_NAMES = (
    "",
    "\0",
    "x",
    "logits",
    "w1",
    "\x1b[2J\x1b]0;owned\x07",
    "<img src=x onerror=alert(1)>",
    "=1+1",
    "a\nPASS int8",
    "../../etc/passwd",
    "n" * 70_000,
    "Größe 数 🙂",
    "x_scale",
    "calib_x",
)
_DIMS = (0, -1, 1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_OPS = ("Nothing", "", "Conv", "Loop", "If", "Scan", "Reshape", "Gemm", "LSTM", "Softmax", "Where")


def _node(model: Model, rng: random.Random) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def _cycle(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    node.input[0] = rng.choice(model.graph.node).output[0]


def _self_loop(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    node.input[0] = node.output[0]


def _dtype(model: Model, rng: random.Random) -> None:
    target = rng.choice((*model.graph.initializer, None))
    if target is None:
        value = rng.choice((model.graph.input[0], model.graph.output[0]))
        value.type.tensor_type.elem_type = rng.randrange(0, 40)
    else:
        target.data_type = rng.randrange(0, 40)


def _dims(model: Model, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_DIMS)
    else:
        tensor.dims.append(rng.choice(_DIMS))


def _declared(model: Model, rng: random.Random) -> None:
    value = rng.choice((model.graph.input[0], model.graph.output[0]))
    dims = value.type.tensor_type.shape.dim
    match rng.randrange(4):
        case 0:
            dims[rng.randrange(len(dims))].dim_value = rng.choice(_DIMS)
        case 1:
            del dims[rng.randrange(len(dims))]
        case 2:
            dims[rng.randrange(len(dims))].dim_param = rng.choice(_NAMES)
        case _:
            value.ClearField("type")


def _values(model: Model, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    data = tensor.raw_data
    match rng.randrange(4):
        case 0:
            tensor.raw_data = data[: rng.randrange(len(data) + 1)]
        case 1:
            tensor.raw_data = data * 3
        case 2:
            tensor.raw_data = rng.randbytes(len(data))
        case _:
            tensor.ClearField("raw_data")


def _missing(model: Model, rng: random.Random) -> None:
    del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def _twice(model: Model, rng: random.Random) -> None:
    part = rng.choice((model.graph.initializer, model.graph.node, model.graph.output))
    part.append(rng.choice(part))


def _name(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    match rng.randrange(5):
        case 0:
            node.name = rng.choice(_NAMES)
        case 1:
            node.output[0] = rng.choice(_NAMES)
        case 2:
            node.input[rng.randrange(len(node.input))] = rng.choice(_NAMES)
        case 3:
            rng.choice((model.graph.input[0], model.graph.output[0])).name = rng.choice(_NAMES)
        case _:
            _rename(model, node.output[0], rng.choice(_NAMES))


def _rename(model: Model, old: str, new: str) -> None:
    """Everywhere, so that the graph still holds together."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in model.graph.output:
        if value.name == old:
            value.name = new


def _operator(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice(_OPS)
    if rng.random() < 0.3:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "nobody", "\x1b[1m", "ai.onnx"))


def _opset(model: Model, rng: random.Random) -> None:
    match rng.randrange(4):
        case 0:
            del model.opset_import[:]
        case 1:
            model.opset_import.append(helper.make_opsetid("", rng.choice((1, 9, 30))))
        case _:
            versions = (-1, 0, 1, 5, 7, 9, 12, 22, 30, 999, 2**62)
            model.opset_import[0].version = rng.choice(versions)


def _header(model: Model, rng: random.Random) -> None:
    match rng.randrange(4):
        case 0:
            model.ir_version = rng.choice((0, 1, 2, 3, 7, 99, 2**62, -1))
        case 1:
            model.producer_name = rng.choice(_NAMES)
        case 2:
            model.ClearField("graph")
        case _:
            del model.graph.node[:]


def _attribute(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    name = rng.choice(("pads", "axis", "perm", "to", "transB", "epsilon", "group", "strides"))
    values = (2**62, -1, [2**62] * 4, [0, 0], [2.5], 1e30, "a", float("nan"), [-1, -1, -1, -1])
    node.attribute.append(helper.make_attribute(name, rng.choice(values)))


def _wires(model: Model, rng: random.Random) -> None:
    node = _node(model, rng)
    match rng.randrange(4):
        case 0:
            del node.input[rng.randrange(len(node.input))]
        case 1:
            node.input.append(rng.choice(_NAMES))
        case 2:
            del node.output[:]
        case _:
            node.output.append("another")


def _deep(model: Model, rng: random.Random) -> None:
    """An If in an If in an If."""
    graph = helper.make_graph([], "leaf", [], [helper.make_tensor_value_info("x", 1, None)])
    for level in range(rng.choice((3, 15, 28))):
        end = helper.make_graph([], "end", [], [helper.make_tensor_value_info("x", 1, None)])
        node = helper.make_node("If", ["yes"], [f"if_{level}"], then_branch=graph, else_branch=end)
        graph = helper.make_graph(
            [node], f"level_{level}", [], [helper.make_tensor_value_info(f"if_{level}", 1, None)]
        )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.extend(graph.node)


def _long(model: Model, rng: random.Random) -> None:
    """Thousands of nodes in a row: what walks a graph by calling itself runs out of stack."""
    last = model.graph.node[-1]
    name, last.output[0] = last.output[0], "long_0"
    count = rng.choice((500, 2000))
    for number in range(count):
        output = name if number == count - 1 else f"long_{number + 1}"
        kind = rng.choice(("Relu", "Identity", "Neg"))
        model.graph.node.append(helper.make_node(kind, [f"long_{number}"], [output]))


def _huge(model: Model, rng: random.Random) -> None:
    """A small file that asks for terabytes when it is run or its constants are folded."""
    sizes = np.array([2 ** rng.choice((20, 24, 31, 40)), 2 ** rng.choice((4, 12, 20))], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(sizes, "huge_shape"))
    last = model.graph.node[-1]
    name, last.output[0] = last.output[0], "before_huge"
    nodes = [
        helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0),
        helper.make_node("Add", ["before_huge", "largest"], [name]),
    ]
    model.graph.node.extend(nodes)


def _external(model: Model, rng: random.Random) -> None:
    """Weights that lie somewhere else."""
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ("../../../etc/passwd", "/etc/passwd", "", ".", "weights.bin", "config.yaml", "a\0b")
    entries = {"location": rng.choice(places)}
    if rng.random() < 0.6:
        entries["offset"] = str(rng.choice((0, -1, 2**62, "a")))
    if rng.random() < 0.6:
        entries["length"] = str(rng.choice((0, -1, 4, 2**62, "a")))
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _sparse(model: Model, rng: random.Random) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([2**40, 2**20])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "w1"))
    sparse.indices.CopyFrom(
        numpy_helper.from_array(np.array([0, rng.choice((-1, 2**60))], np.int64), "at")
    )


def _function(model: Model, rng: random.Random) -> None:
    """A function that calls itself."""
    body = [helper.make_node("Again", ["a"], ["b"], domain="own")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = _node(model, rng)
    node.op_type, node.domain = "Again", "own"
    del node.input[1:]


MUTATIONS: tuple[Callable[[Model, random.Random], None], ...] = (
    _cycle,
    _self_loop,
    _dtype,
    _dtype,
    _dims,
    _dims,
    _declared,
    _declared,
    _values,
    _missing,
    _twice,
    _name,
    _name,
    _operator,
    _opset,
    _header,
    _attribute,
    _wires,
    _deep,
    _long,
    _huge,
    _external,
    _sparse,
    _function,
)
