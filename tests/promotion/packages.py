"""Packages of tiny models, made by hand, for what only reads them; and Triton repositories."""

import json

import numpy as np
import onnx
import records
from onnx import TensorProto, helper

from calib.promotion.package import Package, PackedFile
from calib.promotion.target import TargetOptions
from calib.promotion.triton import open_target
from calib.promotion.triton.schema import read_config
from calib.results import DataRecord, LatencyRecord, TensorSpec
from calib.results.inputs import DatasetRecord

KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "object": TensorProto.STRING,
}


def end(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def identity(inputs, outputs):
    """A model that gives its inputs back."""
    pairs = zip(inputs, outputs, strict=True)
    nodes = [helper.make_node("Identity", [i.name], [o.name]) for i, o in pairs]
    return model(nodes, inputs, outputs)


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "g", _infos(inputs), _infos(outputs), list(constants))
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def _infos(ends):
    return [helper.make_tensor_value_info(e.name, KINDS[e.dtype], list(e.shape)) for e in ends]


def latency(batch_size, p50, shapes, threads=1):
    return LatencyRecord(
        batch_size=batch_size,
        threads=threads,
        shapes=shapes,
        warmup_runs=1,
        runs=5,
        p50_ms=p50,
        p90_ms=None,
        p99_ms=None,
        mean_ms=p50,
        samples_per_second=1000 * batch_size / p50,
        samples_ms=(p50,) * 5,
    )


def dataset(shapes):
    return DatasetRecord(
        kind="arrays",
        source="x.npz",
        samples=8,
        labelled=8,
        batches=1,
        sha256="1" * 64,
        shapes={name: tuple((s, s, s) for s in shape) for name, shape in shapes.items()},
    )


def package(
    folder, proto, samples, axes=None, times=(), name="net", threads=1, session=None, **changes
):
    """A package as a run leaves it.

    Args:
        folder: the run's.
        proto: the model, which is its own candidate.
        samples: a kept batch by input name, or {}.
        axes: the batch axis by input name, 0 where it says none.
        times: (batch size, median ms).
        session: parts of session.json that replace those below; None: there is none.
        changes: of the candidate.
    """
    home = folder / "models" / "int8-minmax"
    home.mkdir(parents=True)
    onnx.save(proto, home / "model.onnx")
    packed = PackedFile.of("model.onnx", home / "model.onnx")
    graph = proto.graph
    axes = {i.name: (axes or {}).get(i.name, 0) for i in graph.input}
    rows = {
        n: tuple(s for axis, s in enumerate(a.shape) if axis != axes[n]) for n, a in samples.items()
    }
    shapes = {n: a.shape for n, a in samples.items()}
    if samples:
        np.savez(home / "warmup.npz", **samples)
    files = [packed]
    if session is not None:
        said = {
            "model": "model.onnx",
            "providers": ["CPUExecutionProvider"],
            "threads": threads,
            "optimization": "ORT_ENABLE_ALL",
            "entries": {"session.force_spinning_stop": "1"},
            "inputs": {},
        }
        (home / "session.json").write_text(json.dumps({**said, **session}))
        files.append(PackedFile.of("session.json", home / "session.json"))
    if samples:
        files.append(PackedFile.of("warmup.npz", home / "warmup.npz"))
    files.append(PackedFile.of("verdict.json", b"{}"))
    candidate = records.candidate(
        model_path="models/int8-minmax/model.onnx",
        model_sha256=packed.sha256,
        latency=tuple(latency(size, p50, shapes, threads) for size, p50 in times),
        **{"peak_memory_bytes": 2**20, "engines": (), **changes},
    )
    run = records.run(candidate)
    ends = {"inputs": _specs(graph.input), "outputs": _specs(graph.output)}
    data = dataset(rows)
    result = run.model_copy(
        update={
            "model": run.model.model_copy(update=ends),
            "data": DataRecord(calibration=data, validation=data),
        }
    )
    return Package(
        name=name,
        result=result,
        candidate=candidate,
        verdict=result.verdict,
        waived=(),
        folder=folder,
        files=tuple(files),
    )


def _specs(values):
    return tuple(
        TensorSpec(
            name=v.name,
            dtype=helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name,
            shape=tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or "?"
                for d in v.type.tensor_type.shape.dim
            ),
        )
        for v in values
    )


def mlp(features=4, classes=3, seed=0):
    """`x` of (batch, features), `logits` of (batch, classes)."""
    weight = np.random.default_rng(seed).normal(size=(features, classes)).astype(np.float32)
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        [end("x", "float32", "batch", features)],
        [end("logits", "float32", "batch", classes)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )


TIMES = ((1, 1.0), (8, 2.0))


def mlp_package(folder, seed=0, **changes):
    """The package of an `mlp`, as of a run of its own; timed at batches of 1 and 8."""
    x = np.random.default_rng(seed).normal(size=(8, 4)).astype(np.float32)
    given = {"times": TIMES, "session": {}, **changes}
    return package(folder / f"run{seed}", mlp(seed=seed), {"x": x}, **given)


def promote(folder, made, **options):
    """Into the Triton repository there."""
    target = open_target(str(folder / "repository"), TargetOptions(**options))
    return target.promote(made)


def written(folder, name="net"):
    """The configuration there, by Triton's schema."""
    return read_config(folder / "repository" / name / "config.pbtxt")
