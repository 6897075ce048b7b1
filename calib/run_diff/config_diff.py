"""What differs between two runs in model, data, machine and config, a sentence each."""

from collections.abc import Iterator, Mapping
from typing import Any

from calib.results import RunResult
from calib.run_diff.summary import machine_of

_IGNORED = ("output.", "description")
_SHOWN = 12
_LENGTH = 60


def differences(first: RunResult, second: RunResult) -> Iterator[str]:
    """Everything that may be the reason of a change, or makes figures incomparable."""
    if first.model.sha256 != second.model.sha256:
        yield f"model: {first.model.sha256[:12]} → {second.model.sha256[:12]}"
    for name in ("calibration", "validation"):
        own, other = getattr(first.data, name), getattr(second.data, name)
        if own.sha256 != other.sha256:
            yield f"{name} data: {own.samples:,} samples → {other.samples:,}, other content"
    if machine_of(first) != machine_of(second):
        yield from _machine(first, second)
    changed = dict(_changed(_flat(first.config), _flat(second.config)))
    for path, text in list(changed.items())[:_SHOWN]:
        yield f"config {path}: {text}"
    if len(changed) > _SHOWN:
        yield f"config: {len(changed) - _SHOWN} more fields differ"


def _machine(first: RunResult, second: RunResult) -> Iterator[str]:
    own, other = first.environment, second.environment
    if own.hostname_sha256 != other.hostname_sha256:
        yield f"machine: {own.cpu} → {other.cpu}, another host"
    elif own.cpu != other.cpu:
        yield f"processor: {own.cpu} → {other.cpu}"
    if own.gpu != other.gpu:
        yield f"GPU: {own.gpu or 'none'} → {other.gpu or 'none'}"
    if own.backend != other.backend:
        yield f"backend: {own.backend} → {other.backend}"
    for name, text in _changed(own.packages, other.packages):
        yield f"package {name}: {text}"
    if own.backend == other.backend:
        for name, text in _changed(own.backend_details, other.backend_details):
            yield f"backend {name}: {text}"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of nested mappings by its dotted path; a list of plain values is a leaf."""
    items: Mapping[Any, Any]
    if isinstance(value, Mapping):
        items = value
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        items = dict(enumerate(value))
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for name, part in items.items():
        found |= _flat(part, f"{path}.{name}" if path else str(name))
    return found


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys([*first, *second]):
        own, other = first.get(name, "absent"), second.get(name, "absent")
        if own != other and not name.startswith(_IGNORED):
            yield name, f"{_short(own)} → {_short(other)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
