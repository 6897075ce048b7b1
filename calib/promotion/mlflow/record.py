"""What a run found, in MLflow's words: parameters, metrics and tags within its limits."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any

from calib.promotion.package import BUNDLE_NAME, Package
from calib.record import Precision
from calib.results import (
    CandidateRecord,
    CandidateVerdict,
    MetricScore,
    TaskScore,
)

PACKAGE_TAG = "calib.package_sha256"
"""Over all files, the run's id and the waivers: by it a package is found again."""

_KEY_LENGTH = 250
_PARAMETER_LENGTH = 6000
_TAG_LENGTH = 5000
_OUTSIDE = re.compile(r"[^\w.\- ]")
"""MLflow's alphabet less `/`, which it takes for folders, and `:`, which Windows refuses."""


def version_tags(package: Package) -> dict[str, str]:
    """Of the registered version: what was judged, by what evidence."""
    result = package.result
    bundle = next((file.sha256 for file in package.files if file.name == BUNDLE_NAME), None)
    ends = [waiver.expires.astimezone(UTC).isoformat() for waiver in package.waivers]
    found = {
        PACKAGE_TAG: package.sha256,
        "calib.verdict": package.verdict.verdict.value,
        "calib.experiment": result.experiment,
        "calib.run_id": result.run_id,
        "calib.candidate": package.candidate.name,
        "calib.model_sha256": package.candidate.model_sha256,
        "calib.fp32_sha256": result.model.sha256,
        "calib.calibration_sha256": result.data.calibration.sha256,
        "calib.validation_sha256": result.data.validation.sha256,
        "calib.bundle_sha256": bundle,
        "calib.waived": ", ".join(package.waived),
        "calib.waived_until": min(ends, default=""),
        "calib.git_commit": result.environment.git_commit,
    }
    return {key: _cut(value, _TAG_LENGTH) for key, value in found.items() if value}


def run_tags(package: Package) -> dict[str, str]:
    """Of the run: the version's, and where and how it was found."""
    result = package.result
    environment = result.environment
    commit = environment.git_commit
    found = {
        "calib.chosen": result.verdict.chosen,
        "calib.machine": environment.hostname_sha256,
        "calib.cpu": environment.cpu,
        "calib.gpu": environment.gpu,
        "calib.backend": environment.backend,
        "calib.version": environment.packages.get("calib"),
        "calib.git_dirty": None if commit is None else str(environment.git_dirty).lower(),
        "mlflow.source.name": "calib promote",
        "mlflow.source.git.commit": commit,
        "mlflow.note.content": package.verdict.reason,
    }
    shown = {key: _cut(value, _TAG_LENGTH) for key, value in found.items() if value}
    return version_tags(package) | shown


def parameters(package: Package) -> dict[str, str]:
    """The config, flat: `calibration.calibrators.0.kind`; what is not set is left out.

    Lists of plain values are one parameter, in JSON.
    """
    return _named((key, _cut(value, _PARAMETER_LENGTH)) for key, value in _flat(package))


def metrics(package: Package) -> dict[str, float]:
    """All figures of the candidate and of FP32; what is unknown or infinite is left out."""
    result, candidate = package.result, package.candidate
    found = dict(_headline(package))
    for name, record in ((_prefix(candidate), candidate), ("fp32", result.reference)):
        found |= dict(_engine(name, record))
    found |= dict(_scores(_prefix(candidate), candidate, _alpha(package)))
    found |= dict(_limits(_judged(package)))
    finite = ((k, float(v)) for k, v in found.items() if v is not None and math.isfinite(v))
    return _named(finite)


Figures = Iterator[tuple[str, float | None]]


def _headline(package: Package) -> Figures:
    """What is lost of the task's own metric, and between which bounds."""
    judged = _judged(package)
    pair = next((p for p in judged.paired if p.rival == Precision.FP32), None) if judged else None
    if pair is not None:
        yield from zip(
            ("drop", "drop_low", "drop_high"), (pair.drop_points, pair.low, pair.high), strict=True
        )
        return
    score = package.candidate.score
    if score is not None and score.headline is not None:
        yield from _loss("drop", score.headline, _alpha(package))


def _loss(name: str, metric: MetricScore, alpha: float) -> Figures:
    yield name, metric.loss
    bounds = metric.bounds(alpha)
    if bounds is not None:
        yield f"{name}_low", bounds[0]
        yield f"{name}_high", bounds[1]


def _engine(name: str, record: CandidateRecord) -> Figures:
    """Speed at each operating point, memory and size."""
    yield f"{name}.size_bytes", record.size_bytes
    yield f"{name}.peak_memory_bytes", record.peak_memory_bytes
    yield f"{name}.load_seconds", record.load_seconds
    for timed in record.latency:
        point = f"batch_{timed.batch_size}"
        if timed.threads is not None:
            point += f".threads_{timed.threads}"
        yield f"{name}.latency_p50_ms.{point}", timed.p50_ms
        yield f"{name}.latency_p50_low_ms.{point}", timed.p50_low_ms
        yield f"{name}.latency_p50_high_ms.{point}", timed.p50_high_ms
        yield f"{name}.latency_p99_ms.{point}", timed.p99_ms
        yield f"{name}.samples_per_second.{point}", timed.samples_per_second


def _scores(name: str, record: CandidateRecord, alpha: float) -> Figures:
    heads = {f"head.{head.name}.": (head.score, head.flips) for head in record.heads}
    for head, (score, flips) in {"": (record.score, record.flips), **heads}.items():
        if score is not None:
            yield from _metrics(name, head, score, alpha)
        if flips is not None:
            for kind in ("total", "worsened", "improved", "sideways"):
                yield f"{head}flips.{kind}", getattr(flips, kind)
            if flips.samples:
                yield f"{head}flips.pct", 100 * flips.total / flips.samples
    decibels = [error.sqnr_db for error in record.outputs if error.sqnr_db is not None]
    yield f"{name}.output_sqnr_db_min", min(decibels, default=None)


def _metrics(name: str, head: str, score: TaskScore, alpha: float) -> Figures:
    for prefix, kinds in (("", score.metrics), ("agreement.", score.agreement)):
        for metric in kinds:
            key = f"{head}{prefix}{metric.name}"
            yield f"{name}.{key}", metric.value
            if not prefix:  # in agreement FP32 is right by definition
                yield f"fp32.{key}", metric.reference
            for part, value in _loss("", metric, alpha):
                yield f"{name}.{key}_loss{part}", value


def _limits(judged: CandidateVerdict | None) -> Figures:
    for rule in judged.rules if judged is not None else ():
        yield f"limits.{rule.rule}", rule.limit
        yield f"limits.{rule.rule}.found", rule.found
        yield f"limits.{rule.rule}.low", rule.low
        yield f"limits.{rule.rule}.high", rule.high


def _judged(package: Package) -> CandidateVerdict | None:
    wanted = package.candidate.name
    return next((c for c in package.verdict.candidates if c.candidate == wanted), None)


def _alpha(package: Package) -> float:
    return package.verdict.alpha or 0.05


def _prefix(candidate: CandidateRecord) -> str:
    return candidate.precision.value


def _flat(package: Package) -> Iterator[tuple[str, str]]:
    yield "model.sha256", package.result.model.sha256
    yield from _leaves("", package.result.config)


def _leaves(path: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), value)
    elif isinstance(node, list | tuple) and any(isinstance(v, dict | list) for v in node):
        for index, value in enumerate(node):
            yield from _leaves(f"{path}.{index}", value)
    elif node is not None:
        yield path, node if isinstance(node, str) else json.dumps(node)


def _named(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """By names that MLflow takes; two that would become one stay apart."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        key = _OUTSIDE.sub("_", name)[:_KEY_LENGTH]
        if key in found:
            suffix = hashlib.sha256(name.encode()).hexdigest()[:8]
            key = f"{key[: _KEY_LENGTH - 9]}-{suffix}"
        found[key] = value
    return found


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
