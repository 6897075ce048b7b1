"""What a run says of the pods that will serve its model: names, digests, resources, latencies."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from calib.deployment import SETTINGS_NAME
from calib.errors import ConfigError
from calib.promotion.capacity import cpu_instances
from calib.promotion.kubernetes.settings import KubernetesSpec
from calib.promotion.package import Package, PackedFile
from calib.results import LatencyRecord

_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NAME_MAX = 50
"""Leaves room for what is put behind it."""
_MB = 2**20
_STEP_MB = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """What every manifest of one promoted version says.

    Attributes:
        name: of the objects; a DNS label.
        model: of the model where it is served.
        version: its number there.
        labels: of every object, and of the pods.
        annotations: whose model it is: digests, run, verdict.
        digests: SHA-256 of every file that a server may load.
        cpus: of a pod.
        memory_mb: of a pod.
        gpus: of a pod; 0 without an engine.
        files_mb: what the model's files take.
        latency: the measured operating point, or None.
        measured_on: processor or GPU of that point, in words.
    """

    name: str
    model: str
    version: int
    labels: dict[str, str]
    annotations: dict[str, str]
    digests: tuple[str, ...]
    cpus: int
    memory_mb: int
    gpus: int
    files_mb: int
    latency: LatencyRecord | None
    measured_on: str


def gather(package: Package, spec: KubernetesSpec, version: int) -> Facts:
    """The facts of a package.

    Raises:
        ConfigError: if a pod's memory or processors were not measured and are not given, or Triton
            serves no model of that name.
    """
    if not _MODEL.fullmatch(package.name):
        raise ConfigError(
            "--name",
            "is no name that Triton serves a model under",
            got=package.name,
            expected="letters, digits, `_`, `-` and `.`, at most 128, not beginning with - or .",
        )
    instances = spec.instances or _instances(package)
    name = object_name(package.name)
    environment = package.result.environment
    return Facts(
        name=name,
        model=package.name,
        version=version,
        labels={
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/component": "inference",
            "app.kubernetes.io/part-of": "calib",
            "app.kubernetes.io/managed-by": "calib",
        },
        annotations=_annotations(package, version),
        digests=tuple(sorted({file.sha256 for file in package.files if _is_served(file)})),
        cpus=spec.cpus or _threads(package) * instances,
        memory_mb=spec.memory_mb or _memory_mb(package, spec, instances),
        gpus=spec.gpus if package.engines else 0,
        files_mb=math.ceil(sum(map(_size, package.files)) / _MB),
        latency=_latency(package),
        measured_on=environment.gpu or environment.cpu,
    )


def object_name(model: str) -> str:
    """A DNS label (RFC 1035) for a model: its own name if that is one.

    Capitals and underscores become what a label may have. A name that needs more than that, or is
    too long, gets some digits of its own digest, so that it is not taken for another one's.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"model-{plain}".rstrip("-")
    if plain == model.lower().replace("_", "-") and len(plain) <= _NAME_MAX:
        return plain
    return f"{plain[: _NAME_MAX - 9].rstrip('-')}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _annotations(package: Package, version: int) -> dict[str, str]:
    found = {
        "calib/candidate": package.candidate.name,
        "calib/experiment": package.result.experiment,
        "calib/model-sha256": package.candidate.model_sha256,
        "calib/name": package.name,
        "calib/package-sha256": package.sha256,
        "calib/run-id": package.result.run_id,
        "calib/verdict": package.verdict.verdict.value,
        "calib/version": str(version),
    }
    if package.waived:
        found["calib/waived"] = ", ".join(package.waived)
    return found


def _is_served(file: PackedFile) -> bool:
    """Whether it is a model, a part of one, or an engine."""
    return file.name.endswith(".plan") or ".onnx" in file.name


def _size(file: PackedFile) -> int:
    return file.source.stat().st_size if isinstance(file.source, Path) else len(file.source)


def _latency(package: Package) -> LatencyRecord | None:
    """Of the largest batch and the most threads, if it is the time of what is served."""
    candidate = package.candidate
    if candidate.emulated or (package.engines and not any(e.ran_here for e in candidate.engines)):
        return None
    return candidate.latency_at()


def _session_threads(package: Package) -> int | None:
    """Of the session that the candidate was measured with."""
    for file in package.files:
        if file.name == SETTINGS_NAME:
            threads = json.loads(file.read()).get("threads")
            return int(threads) if threads else None
    return None


def _threads(package: Package) -> int:
    """Processors of one instance: what the candidate was measured with; an engine feeds its GPU."""
    if package.engines:
        return 1
    point = package.candidate.latency_at()
    found = _session_threads(package) or (point.threads if point is not None else None)
    if found is None:
        raise ConfigError(
            "cpus", "is needed: the run says no number of threads", fix="Give cpus=…."
        )
    return found


def _instances(package: Package) -> int:
    """As `--to triton:` writes."""
    return 1 if package.engines else cpu_instances(package, _session_threads(package) or 0)


def _memory_mb(package: Package, spec: KubernetesSpec, instances: int) -> int:
    """Each instance's measured peak, and the server; in steps of 64 MiB."""
    peak = package.candidate.peak_memory_bytes
    if peak is None:
        raise ConfigError(
            "memory_mb",
            "is needed: the run did not measure the peak memory of what is served",
            fix="Give memory_mb=…, as seen under load.",
        )
    wanted = instances * peak / _MB + spec.server_memory_mb
    return math.ceil(wanted / _STEP_MB) * _STEP_MB
