"""What ONNX Runtime makes of small models: their graphs, and its own profile of a run."""

import json
from collections import Counter
from pathlib import Path

import models
import numpy as np
import onnxruntime as ort
from layer_models import ALL, loaded, ort_run
from onnx import TensorProto, helper

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.graph.native import insert_native_qdq, native_tensors
from calib.graph.optimized import kernel_counts, operators, read_optimized
from calib.graph.qdq import insert_qdq
from calib.graph.ran import node_runs
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.taps import tapped
from calib.graph.unsigned import with_unsigned_activations


def quantized(proto, folder, layout, feeds, spec=ALL):
    """The INT8 graph of a model, calibrated by the least and the largest values of a run."""
    graph = loaded(proto, folder)
    selection = select(graph, spec)
    tensors = native_tensors(graph, selection)
    inner = [name for name in tensors if name not in feeds]
    values = {**feeds, **ort_run(tapped(graph, inner), feeds)}
    ranges = {name: (float(values[name].min()), float(values[name].max())) for name in tensors}
    if layout == "native":
        return insert_native_qdq(graph, selection, ranges)
    amax = {name: max(-low, high) for name, (low, high) in ranges.items()}
    graph = insert_qdq(graph, selection, amax)
    return with_unsigned_activations(graph) if layout == "uint8" else graph


def written(graph, folder):
    path = folder / "given.onnx"
    save_model(graph, path)
    return path


def read_back(path, feeds, **spec):
    """The operators, and what each node ran in."""
    optimized = path.with_name("optimized.onnx")
    OnnxRuntime(OnnxRuntimeSpec(threads=1, **spec)).write_structure(path, optimized)
    found = operators(read_optimized(optimized))
    shapes = {name: array.shape for name, array in feeds.items()}
    return found, node_runs(read_graph(path), found, shapes)


def profiled(path, feeds, **spec):
    """How many operators of each type ran, as the runtime's profile of a run tells."""
    options = OnnxRuntime(OnnxRuntimeSpec(threads=1, **spec))._options()
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return Counter(
        event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")
    )


def types(found):
    """The same of the optimized graph."""
    counts = Counter()
    for kernel, count in kernel_counts(found).items():
        counts[kernel.split(" ")[0]] += count
    return counts


def mobile():
    """A net of two inverted residuals: wide, depthwise, narrow, and an Add around the second."""
    rng = np.random.default_rng(4)
    nodes, constants = [], {}

    def conv(number, source, shape, group=1, clip=True):
        fan = np.prod(shape[1:])
        constants[f"w{number}"] = (rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32)
        constants[f"b{number}"] = rng.normal(size=shape[0], scale=0.1).astype(np.float32)
        pads = [shape[2] // 2] * 4
        inputs, name = [source, f"w{number}", f"b{number}"], f"conv{number}"
        nodes.append(helper.make_node("Conv", inputs, [name], name, pads=pads, group=group))
        if not clip:
            return name
        nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"r{number}"], f"c{number}"))
        return f"r{number}"

    constants["zero"], constants["six"] = np.float32(0), np.float32(6)
    stem = conv(0, "x", (16, 3, 3, 3))
    first = conv(3, conv(2, conv(1, stem, (32, 16, 1, 1)), (32, 1, 3, 3), 32), (16, 32, 1, 1), 1, 0)
    second = conv(
        6, conv(5, conv(4, first, (32, 16, 1, 1)), (32, 1, 3, 3), 32), (16, 32, 1, 1), 1, 0
    )
    nodes += [
        helper.make_node("Add", [first, second], ["sum"], "residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "wh", "bh"], ["y"], "head"),
    ]
    constants["wh"] = rng.normal(size=(16, 16), scale=0.2).astype(np.float32)
    constants["bh"] = rng.normal(size=16).astype(np.float32)
    return models.build(
        nodes, [("x", TensorProto.FLOAT, ["n", 3, 8, 8])], [("y", ["n", 16])], constants
    )


MODELS = {
    "mlp": (models.mlp, (5, 32)),
    "residual": (models.residual_cnn, (2, 3, 8, 8)),
    "chain": (lambda: models.conv_chain(16, 16, 32), (2, 3, 12, 12)),
    "mobile": (mobile, (2, 3, 8, 8)),
    "transformer": (models.transformer_block, (2, 6, 32)),
}


def feeds_of(name):
    return {"x": np.random.default_rng(1).normal(size=MODELS[name][1]).astype(np.float32)}


def given(name, layout, folder):
    proto = MODELS[name][0]()
    if layout == "float":
        return loaded(proto, folder)
    return quantized(proto, folder, layout, feeds_of(name))


def share(runs):
    total = sum(n.macs for n in runs.nodes)
    return 100 * sum(n.macs for n in runs.nodes if n.ran == "int8") / total
