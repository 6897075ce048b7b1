"""What Triton's schema does not see: whether a configuration fits the model that it is for."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calib.errors import StoreError
from calib.graph.signature import Signature, read_signature
from calib.promotion.triton.schema import CONFIG_NAME, read_config, schema
from calib.promotion.triton.served import ONNXRUNTIME, PLAN_NAME, TENSORRT
from calib.promotion.triton.types import TYPES, byte_problem
from calib.promotion.triton.version import VersionRecord, read_version
from calib.results import TensorSpec

MODEL_FILES = {ONNXRUNTIME: "model.onnx", TENSORRT: PLAN_NAME}
WARMUP_FOLDER = "warmup"


def check_model(folder: Path, name: str, config_path: Path | None = None) -> None:
    """Check a model's folder in a repository: its configuration against what lies there.

    Args:
        folder: of the model.
        name: that it is served under.
        config_path: of the configuration; the one in the folder if None.

    Raises:
        StoreError: with all that is wrong, a line each.
    """
    path = config_path or folder / CONFIG_NAME
    config = read_config(path)
    problems = list(_problems(config, folder, name))
    if problems:
        raise StoreError(
            str(path),
            f"does not fit what lies beside it: {problems[0]}",
            more=tuple(f"{path}: {problem}" for problem in problems[1:]),
            fix="Mend it, or move the model's folder away and promote again.",
        )


def _problems(config: Any, folder: Path, name: str) -> Iterator[str]:
    if config.name != name:
        yield f"it names {config.name!r}, the folder is {name!r}"
    if config.backend not in MODEL_FILES:
        yield f"backend {config.backend!r} is none of {', '.join(MODEL_FILES)}"
        return
    versions = list(config.version_policy.specific.versions)
    if not versions:
        yield "version_policy names no version: Triton would serve the latest, judged or not"
    for version in versions:
        yield from _version_problems(config, folder / str(version))
    yield from _batch_problems(config)
    yield from _warmup_problems(config, folder / WARMUP_FOLDER)


def _version_problems(config: Any, folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        yield f"version {folder.name} is not there"
        return
    record = read_version(folder)
    yield from (f"version {folder.name}: {problem}" for problem in record.problems(folder))
    files = set(config.cc_model_filenames.values()) or {
        config.default_model_filename or MODEL_FILES[config.backend]
    }
    missing = sorted(file for file in files if not (folder / file).is_file())
    if missing:
        yield f"version {folder.name} has no {', '.join(missing)}"
        return
    yield from _end_problems(config, _signature(config, folder, record))
    limit = record.profile_limit
    if limit is not None and config.max_batch_size > limit:
        yield f"max_batch_size {config.max_batch_size} is beyond the engine's profile, {limit}"


def _signature(config: Any, folder: Path, record: VersionRecord) -> Signature:
    """Of the ONNX file that is served; an engine's is that of the file it was built from."""
    if config.backend == ONNXRUNTIME:
        return read_signature(folder / (config.default_model_filename or MODEL_FILES[ONNXRUNTIME]))
    return record.signature


def _end_problems(config: Any, ends: Signature) -> Iterator[str]:
    batched = bool(config.max_batch_size)
    for what, ports, specs in (
        ("input", config.input, ends.inputs),
        ("output", config.output, ends.outputs),
    ):
        said = {port.name: port for port in ports}
        real = {spec.name: spec for spec in specs}
        if what == "input" and said.keys() != real.keys():
            yield f"inputs {sorted(said)} are not the model's, {sorted(real)}"
        unknown = sorted(said.keys() - real.keys())
        if what == "output" and (unknown or not said):
            yield f"outputs {unknown} are none of the model's, {sorted(real)}"
        for name in said.keys() & real.keys():
            known = name not in ends.shapeless
            problem = _port_problem(said[name], real[name], batched=batched, known=known)
            if problem:
                yield f"{what} {name}: {problem}"


def _port_problem(port: Any, spec: TensorSpec, *, batched: bool, known: bool) -> str:
    kind = schema().DataType.Name(port.data_type)
    if kind != TYPES.get(spec.dtype):
        return f"{kind} where the model has {spec.dtype}"
    shape = list(port.reshape.shape) if port.HasField("reshape") else list(port.dims)
    if not port.dims or any(size < 1 and size != -1 for size in (*port.dims, *shape)):
        return f"dims {list(port.dims)} must be 1 or more each, or -1"
    if port.HasField("reshape") and math.prod(port.dims) != math.prod(shape):
        return f"dims {list(port.dims)} and reshape {shape} hold different numbers of elements"
    if not known:
        return ""
    whole = [-1, *shape] if batched else shape
    if batched and (not spec.shape or isinstance(spec.shape[0], int)):
        return f"max_batch_size asks for a dynamic first axis; the model has {list(spec.shape)}"
    if not spec.shape and shape == [1]:
        return ""
    fits = len(whole) == len(spec.shape) and all(
        size == real for size, real in zip(whole, spec.shape, strict=True) if isinstance(real, int)
    )
    return "" if fits else f"shape {whole} where the model has {list(spec.shape)}"


def _batch_problems(config: Any) -> Iterator[str]:
    if config.max_batch_size < 0:
        yield f"max_batch_size {config.max_batch_size} is negative"
    batcher = config.dynamic_batching
    wrong = [s for s in batcher.preferred_batch_size if not 0 < s <= config.max_batch_size]
    if wrong:
        yield f"preferred_batch_size {wrong} is not within 1 and max_batch_size"
    if config.HasField("dynamic_batching") and config.max_batch_size < 1:
        yield "dynamic_batching without a max_batch_size"


def _warmup_problems(config: Any, folder: Path) -> Iterator[str]:
    wanted = {port.name: port for port in config.input}
    for warmup in config.model_warmup:
        if warmup.batch_size > max(1, config.max_batch_size):
            yield f"warm-up {warmup.name} is of {warmup.batch_size}, beyond max_batch_size"
        if set(warmup.inputs) != wanted.keys():
            yield f"warm-up {warmup.name} has not the model's inputs"
            continue
        for name, given in warmup.inputs.items():
            problem = _warmup_problem(given, wanted[name], folder)
            if problem:
                yield f"warm-up {warmup.name}, {name}: {problem}"


def _warmup_problem(given: Any, port: Any, folder: Path) -> str:
    dims = list(given.dims)
    if given.data_type != port.data_type:
        return "is of another type than the input"
    fits = len(dims) == len(port.dims) and all(
        size == wanted for size, wanted in zip(dims, port.dims, strict=True) if wanted != -1
    )
    if not fits or any(size < 1 for size in dims):
        return f"dims {dims} do not fit {list(port.dims)}"
    if given.WhichOneof("input_data_type") != "input_data_file":
        return ""
    path = folder / given.input_data_file
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    problem = byte_problem(content, schema().DataType.Name(given.data_type), dims)
    return f"{path} holds {problem}" if problem else ""


def by_number(folder: Path) -> Mapping[int, Path]:
    """The version folders of a model, by number.

    Raises:
        StoreError: if a name there is taken for a version by Triton and is none, or the other way.
    """
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        # Triton reads a number from the beginning of a name: `2old` is version 2 to it. And it
        # passes over numbers with leading zeros.
        if path.is_dir() and path.name.lstrip(" +-")[:1].isdigit():
            if not path.name.isascii() or str(int(_digits(path.name))) != path.name:
                raise StoreError(
                    str(path),
                    "is no version that Triton would read so",
                    expected="a whole number without leading zeros",
                    fix="Rename it, or move it away.",
                )
            found[int(path.name)] = path
    return found


def _digits(name: str) -> str:
    return name if name.isascii() and name.isdigit() else "0"
