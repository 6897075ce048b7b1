"""Files that are ONNX by their form, and hold what no reader should trust: said before any is run.

ONNX's own checker lets pass what makes its readers, or a runtime, fail or read elsewhere.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import external_data_helper, numpy_helper

from calib.errors import ModelError

_BYTE_BITS = 8


def refuse_broken(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model whose texts or tensors are damaged.

    Args:
        proto: without its external data.
        path: the file that it was read from.

    Raises:
        ModelError: a name that is no UTF-8; a tensor of an unknown type, with a negative axis, or
            with more or fewer bytes than its shape takes; external data outside of the model's
            folder, behind a link that leads there, or beyond its file's end.
    """
    for text in _texts(proto):
        if isinstance(text, bytes):
            raise ModelError(str(path), "holds a name that is no UTF-8", got=repr(text[:100]))
    if not proto.graph.output:
        raise ModelError(str(path), "has no output")
    for tensor in external_data_helper._get_all_tensors(proto):  # noqa: SLF001 - no public way
        where = f"{path}, tensor {tensor.name or '(without a name)'}"
        wanted = _bytes_wanted(tensor, where)
        if external_data_helper.uses_external_data(tensor):
            _refuse_external(tensor, path, wanted, where)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != wanted:
                raise _unfit(where, len(tensor.raw_data), wanted, list(tensor.dims))
        else:
            _refuse_values(tensor, wanted, where)


def _texts(message: Message) -> Iterator[str | bytes]:
    """Every text field; what is no UTF-8 comes as bytes."""
    if isinstance(message, onnx.TensorProto):  # listing its fields would copy its values
        yield message.name
        for entry in message.external_data:
            yield from (entry.key, entry.value)
        return
    for field, value in message.ListFields():
        many: Any = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == FieldDescriptor.TYPE_STRING:
            yield from many
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in many:
                yield from _texts(part)


def _bytes_wanted(tensor: onnx.TensorProto, where: str) -> int:
    if any(size < 0 for size in tensor.dims):
        raise ModelError(where, "has a negative axis", got=list(tensor.dims))
    if tensor.data_type == onnx.TensorProto.STRING:
        return math.prod(tensor.dims)
    try:
        bits = ir.DataType(tensor.data_type).itemsize * _BYTE_BITS
    except (ValueError, TypeError) as error:
        raise ModelError(where, "is of an unknown type", got=tensor.data_type) from error
    return -(-math.prod(tensor.dims) * int(bits) // _BYTE_BITS)


def _refuse_values(tensor: onnx.TensorProto, wanted: int, where: str) -> None:
    """Values in a field of their type: as many as the shape has room for."""
    if tensor.data_type == onnx.TensorProto.STRING:
        if len(tensor.string_data) != wanted:
            raise _unfit(where, len(tensor.string_data), wanted, list(tensor.dims))
        return
    held = tensor.ByteSize()  # at least a byte a value
    if wanted > _BYTE_BITS * max(held, 1):
        raise _unfit(where, held, wanted, list(tensor.dims))
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # whatever the values do to it
        raise ModelError(where, f"does not hold the values of its shape: {error}") from error


def _refuse_external(tensor: onnx.TensorProto, path: Path, wanted: int, where: str) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/"))
    if not location or "\0" in location or parts.is_absolute() or ".." in parts.parts:
        raise ModelError(
            where,
            "its external data lies outside of the model's folder",
            got=location or "no location",
            expected="a path below that folder",
            fix="Put the data file beside the model, and save the model with its name.",
        )
    file = path.parent / location
    if not file.is_file():
        raise ModelError(
            where,
            "its external data file is missing",
            expected=str(file),
            fix="Keep the data file beside the model, under the name the model gives it.",
        )
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(
            where,
            "its external data is a link that leads out of the model's folder",
            got=f"{file} -> {file.resolve()}",
            fix="Copy the file that it leads to there.",
        )
    size = file.stat().st_size
    start = _number(entries.get("offset") or "0", where)
    length = _number(entries["length"], where) if entries.get("length") else size - start
    if start + length > size:
        raise ModelError(
            where,
            "its external data ends beyond its file's end",
            got=f"{size} bytes in {file}",
            expected=f"{start + length}",
            fix="Copy the data file again.",
        )
    if length < wanted or (entries.get("length") and length != wanted):
        raise _unfit(where, length, wanted, list(tensor.dims))


def _number(text: str, where: str) -> int:
    if not text.isdecimal():
        raise ModelError(where, "offset or length of its external data is no number", got=text)
    return int(text)


def _unfit(where: str, got: int, wanted: int, shape: list[int]) -> ModelError:
    return ModelError(
        where,
        "does not hold the values of its shape",
        got=f"{got} bytes",
        expected=f"{wanted} for {shape}",
        fix="Export or copy the model again.",
    )
