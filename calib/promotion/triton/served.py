"""Which files of a package Triton serves, by which backend, and what of the session it can keep."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from calib.deployment import SCRIPT_NAME, SETTINGS_NAME
from calib.engine_record import EngineRecord
from calib.errors import StoreError
from calib.promotion.package import MODEL_NAME, Package, PackedFile

ONNXRUNTIME, TENSORRT = "onnxruntime", "tensorrt"
PLAN_NAME = "model.plan"
WARMUP_NAME = "warmup.npz"
_CAPABILITY = re.compile(r"\d+\.\d+")
_NOT_SERVED = re.compile(r".+\.onnx(\..+)?|.+\.plan")


@dataclass(frozen=True, slots=True)
class Served:
    """What goes into a version's folder.

    Attributes:
        backend: Triton's name of it.
        source: the ONNX file that is served, or that the engine was built from.
        files: by the name in the version's folder.
        engines: TensorRT: what the builder said of each.
        by_capability: TensorRT: file name by compute capability, where there are several.
        session: of session.json; empty without one.
    """

    backend: str
    source: PackedFile
    files: Mapping[str, PackedFile]
    engines: tuple[EngineRecord, ...] = ()
    by_capability: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lost_entries(self) -> dict[str, str]:
        """Entries of the session that Triton's backend has no parameter for."""
        known = "session.use_device_allocator_for_initializers"
        return {k: v for k, v in self.session.get("entries", {}).items() if k != known}


def what_is_served(package: Package) -> Served:
    """The engine that was judged, or the ONNX file that ONNX Runtime was timed on.

    Raises:
        StoreError: if what was judged is no engine that Triton can run, or is not in the package.
    """
    engines = _engines(package)
    if engines:
        return _with_companions(package, _of_engines(package, engines))
    session = _session(package)
    name = str(session.get("model", MODEL_NAME))
    named = {file.name: file for file in package.files}
    if name not in named:
        raise StoreError(
            SETTINGS_NAME,
            "names a model that the package has not got",
            got=name,
            fix="Run it again.",
        )
    parts = {n: f for n, f in named.items() if n.startswith(f"{name}.")}
    files = {MODEL_NAME: named[name], **parts}
    return _with_companions(package, Served(ONNXRUNTIME, named[name], files, session=session))


def _engines(package: Package) -> list[tuple[EngineRecord, PackedFile]]:
    packed = {file.sha256: file for file in package.engines}
    for engine in package.candidate.engines:
        if engine.backend != TENSORRT and engine.ran_here:
            raise StoreError(
                package.candidate.name,
                "was judged as an engine that Triton has no backend for",
                got=engine.backend,
                expected=TENSORRT,
                fix="Run it with backend.kind: tensorrt or onnxruntime.",
            )
    return [
        (engine, packed[engine.plan_sha256])
        for engine in package.candidate.engines
        if engine.backend == TENSORRT and engine.plan_sha256 in packed
    ]


def _of_engines(package: Package, engines: list[tuple[EngineRecord, PackedFile]]) -> Served:
    records = tuple(record for record, _ in engines)
    if len(engines) == 1:
        return Served(TENSORRT, package.model, {PLAN_NAME: engines[0][1]}, records)
    targets = [record.target for record in records]
    if not all(map(_CAPABILITY.fullmatch, targets)) or len(set(targets)) < len(targets):
        raise StoreError(
            package.candidate.name,
            "has several engines, which Triton tells apart by compute capability alone",
            got=", ".join(targets),
            fix="Run it for one GPU.",
        )
    names = {target: f"model-{target}.plan" for target in targets}
    files = {names[record.target]: file for record, file in engines}
    return Served(TENSORRT, package.model, files, records, names)


def _with_companions(package: Package, served: Served) -> Served:
    """Also scales, evidence and card; not what would be another model, or opens one by its name."""
    beside = {file.name: file for file in _companions(package)}
    return replace(served, files={**beside, **served.files})


def _companions(package: Package) -> Iterator[PackedFile]:
    for file in package.files:
        if file.name not in (SCRIPT_NAME, WARMUP_NAME) and not _NOT_SERVED.fullmatch(file.name):
            yield file


def _session(package: Package) -> dict[str, Any]:
    for file in package.files:
        if file.name == SETTINGS_NAME:
            try:
                found: dict[str, Any] = json.loads(file.read())
            except (OSError, ValueError) as error:
                raise StoreError(SETTINGS_NAME, f"cannot be read: {error}") from error
            return found
    return {}
