"""Reading a model, and refusing what cannot be calibrated."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx import external_data_helper
from onnx_ir.passes import common

from calib.errors import InputError, ModelError
from calib.graph.broken import refuse_broken
from calib.graph.constants import fold_constants
from calib.graph.existing import Existing
from calib.graph.opset import modernised, opset_of, refuse_unknown_versions
from calib.graph.read import infer_shapes, read_graph
from calib.graph.refuse import refuse_uncalibratable, warnings_of
from calib.graph.widen import model_precision, widened
from calib.results import ModelPrecision, ModelRecord, TensorSpec

Graph = ir.Model
"""A model in memory; other packages hand it on without looking inside."""

_ONLY_SHAPELESS = "Field 'shape' of 'type' is required but missing"
"""Of an output: runtimes do not need it, and we infer it."""
_IR_VERSION, _NEWEST_IR_VERSION = 8, 10
"""Those of opset 17 and of opset 21."""
_AFTER_IR_10 = frozenset(
    kind for kind in ir.DataType if kind.name in ("FLOAT4E2M1", "FLOAT8E8M0", "INT2", "UINT2")
)
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be calibrated.

    Attributes:
        path: the file, as it was given; the reference engine runs this very file where it can.
        graph: the same model in memory, in FP32 and normalised: constants are initializers, every
            node has a name, identities are gone, shapes are inferred. Tensor names are those of
            the file; inputs and outputs have its types.
        record: what a report says about it.
        reference: what the reference engine runs where it is not this very file.
    """

    path: Path
    graph: ir.Model
    record: ModelRecord
    reference: Path | None = None


def load_model(path: Path, existing: Existing = "refuse", newest_opset: int | None = None) -> Model:
    """Read, check and normalise an ONNX file.

    Args:
        path: the file.
        existing: what is done with Q/DQ pairs that it has already.
        newest_opset: that the runtime takes; None if it is not asked for one.

    Raises:
        ModelError: if there is no such file, it is no ONNX file or truncated, its external data is
            missing or short, it is of an opset that cannot be used, or it cannot be calibrated
            (see `refuse_uncalibratable`).
    """
    proto = _read_proto(path)
    refuse_unknown_versions(proto, str(path))
    _check(path)
    with _understood(path):
        model, changed = modernised(path, proto, newest_opset)
        graph = _normalised(model)
        precision = model_precision(graph)
        if precision is not ModelPrecision.FP32:
            graph = fold_constants(widened(graph))
            infer_shapes(graph)
        refuse_uncalibratable(graph, path, existing)
        warnings = (*warnings_of(graph), *((changed,) if changed else ()))
        record = _record(path, proto, graph, warnings)
        return Model(path, graph, record.model_copy(update={"precision": precision}))


def read_model(path: Path) -> ir.Model:
    """Read and check any ONNX file, quantized ones too, with shapes inferred.

    Raises:
        ModelError: if there is no such file, or it is no whole ONNX model.
    """
    _check(path)
    with _understood(path):
        return read_graph(path)


def model_sha256(path: Path) -> str:
    """SHA-256 (hex) over the file and its external data files, these in the order of their names.

    Raises:
        ModelError: if one of them cannot be read.
    """
    sha = hashlib.sha256()
    try:
        for part in files_of_model(path):
            with part.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    sha.update(chunk)
    except OSError as error:
        raise ModelError(str(path), f"external data cannot be read: {error}") from error
    return sha.hexdigest()


def files_of_model(path: Path) -> tuple[Path, ...]:
    """The file, and its external data files.

    Raises:
        ModelError: if it cannot be read.
    """
    return (path, *_external_files(path, _read_proto(path)))


def _read_proto(path: Path) -> onnx.ModelProto:
    """The file's protobuf without its external data."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise ModelError(str(path), "there is no such model file", fix="Check the path.") from error
    except (DecodeError, OSError, ValueError) as error:
        raise _no_onnx(path, error) from error
    if not proto.graph.node or not proto.ir_version:
        raise _no_onnx(path, ValueError("it has no graph"))
    return proto


def _no_onnx(path: Path, error: Exception) -> ModelError:
    size = path.stat().st_size if path.is_file() else 0
    return ModelError(
        str(path),
        "is no ONNX model, or only a part of one",
        got=f"{size} bytes; {error}",
        fix="Export or copy the model again.",
    )


def _check(path: Path) -> None:
    refuse_broken(_read_proto(path), path)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # it raises what its C++ does, too
        if _ONLY_SHAPELESS in str(error):
            return
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(str(path), f"the ONNX checker refuses it: {reason[0]}") from error


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """What the readers of a graph stumble over is said of the file.

    They are not written for graphs that no exporter makes, and the checker lets some of these pass.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            str(path),
            f"its graph cannot be read: {type(error).__name__}: {error}",
            fix="Export the model again. If ONNX Runtime runs it, this is a fault of calib: "
            "please report it.",
        ) from error


def _external_files(path: Path, proto: onnx.ModelProto) -> list[Path]:
    tensors = external_data_helper._get_all_tensors(proto)  # noqa: SLF001 - no public way
    names = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in tensors
        if external_data_helper.uses_external_data(tensor)
    }
    return [path.parent / name for name in sorted(names)]


def _normalised(model: ir.Model) -> ir.Model:
    # Before IR 4 every initializer had to be an input, which it is no more. What came after IR 10
    # are types that we refuse to touch, and runtimes are slow to take the number.
    narrow = any(value.dtype in _AFTER_IR_10 for value in model.graph.initializers.values())
    newest = model.ir_version if narrow else _NEWEST_IR_VERSION
    model.ir_version = min(max(model.ir_version, _IR_VERSION), newest)
    # Shapes are inferred anew: an exporter's own can be wrong, and ours decide what is refused.
    for rewrite in (
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.RemoveInitializersFromInputsPass(),
        _drop_identities,
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    ):
        rewrite(model)
    _name_nodes(model)
    _forget_shared_placeholders(model)
    infer_shapes(model)
    model = fold_constants(model)
    infer_shapes(model)
    return model


def _drop_identities(model: ir.Model) -> None:
    """Without Identity nodes, but for those between two outputs or an input and an output.

    onnx_ir's own pass gives both outputs one name.
    """
    for node in list(model.graph.all_nodes()):
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type != "Identity" or source is None or node.graph is None:
            continue
        if output.is_graph_output():
            producer = source.producer()
            if source.is_graph_output() or producer is None or producer.graph is not node.graph:
                continue
            outputs = node.graph.outputs
            outputs[list(outputs).index(output)] = source
            source.name, output.name = output.name, None
        output.replace_all_uses_with(source)
        node.graph.remove(node, safe=True)


def _name_nodes(model: ir.Model) -> None:
    taken: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        base = node.name or f"{node.op_type}_{node.outputs[0].name}"
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"


def _forget_shared_placeholders(model: ir.Model) -> None:
    """Make what stands for a dynamic axis one without a name.

    Paddle calls every dynamic axis `?`, and TensorRT takes axes of one name for equal. Older
    exporters write -1, or a batch of 0.
    """
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            sizes = [_named_axis(size) for size in value.shape]
            value.shape = ir.Shape(
                [None if sizes[0] == 0 else sizes[0], *sizes[1:]] if sizes else []
            )


def _named_axis(size: int | ir.SymbolicDim) -> int | ir.SymbolicDim | None:
    if isinstance(size, ir.SymbolicDim) and not (size.value or "").isidentifier():
        return None
    return None if isinstance(size, int) and size < 0 else size


def _record(
    path: Path, proto: onnx.ModelProto, model: ir.Model, warnings: tuple[str, ...]
) -> ModelRecord:
    files = [path, *_external_files(path, proto)]
    return ModelRecord(
        path=str(path),
        sha256=model_sha256(path),
        size_bytes=sum(part.stat().st_size for part in files),
        opset=opset_of(proto),
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip() or "unknown",
        parameters=_parameters(model),
        inputs=tuple(_tensor_specs(model.graph.inputs)),
        outputs=tuple(_tensor_specs(model.graph.outputs)),
        warnings=warnings,
    )


def _parameters(model: ir.Model) -> int:
    return sum(
        math.prod(value.shape.numpy())
        for value in model.graph.initializers.values()
        if value.shape is not None and value.dtype is not None and value.dtype.is_floating_point()
    )


def _tensor_specs(values: Sequence[ir.Value]) -> Iterator[TensorSpec]:
    for value in values:
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        axes = () if value.shape is None else value.shape
        yield TensorSpec(
            name=str(value.name),
            dtype=np.dtype(dtype).name,
            shape=tuple(a if isinstance(a, int) else (a.value or "?") for a in axes),
        )
