"""One YAML file with all objects of a model, for `kubectl apply`, Argo CD or Flux."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from calib.errors import ConfigError, StoreError
from calib.promotion.kubernetes import kserve, triton
from calib.promotion.kubernetes.alerts import has_latency
from calib.promotion.kubernetes.facts import Facts, gather, object_name
from calib.promotion.kubernetes.settings import KubernetesSpec, read_place
from calib.promotion.package import Package
from calib.promotion.target import TargetOptions
from calib.store import write_atomically

_SUFFIXES = (".yaml", ".yml")
_HEAD = "# Written by `calib promote`, and overwritten by it: settings belong into its own file.\n"


def open_target(path: str, options: TargetOptions) -> "KubernetesManifests":
    """The manifests at `PATH?settings=FILE&field=value&…`.

    Args:
        path: a YAML file, or a folder for one that is named for the model; then the settings.
        options: `version` is the model's number in the Triton repository.

    Raises:
        ConfigError: if a setting is unknown, missing or wrong.
    """
    where, spec = read_place(path)
    return KubernetesManifests(where, spec, options)


class KubernetesManifests:
    """A file, or a folder of files, that a cluster is told to look like."""

    def __init__(self, path: Path, spec: KubernetesSpec, options: TargetOptions) -> None:
        self._path, self._spec, self._options = path, spec, options

    def plan(self, package: Package) -> tuple[str, ...]:
        """See `Target.plan`."""
        path = self._file(package)
        facts, documents = self._wanted(package, path)
        if path.is_file() and path.read_text(encoding="utf-8") == _text(documents):
            return ()
        return tuple(self._said(facts, documents, path))

    def promote(self, package: Package) -> tuple[str, ...]:
        """See `Target.promote`."""
        path = self._file(package)
        facts, documents = self._wanted(package, path)
        text = _text(documents)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return ()
        said = tuple(self._said(facts, documents, path))
        write_atomically(path, text)
        return said

    def _file(self, package: Package) -> Path:
        if self._path.suffix in _SUFFIXES:
            return self._path
        return self._path / f"{object_name(package.name)}.yaml"

    def _wanted(self, package: Package, path: Path) -> tuple[Facts, tuple[dict[str, Any], ...]]:
        now = _read(path)
        facts = gather(package, self._spec, self._version(package, now))
        _refuse_other(path, now, facts)
        if self._spec.kind == "kserve":
            return facts, kserve.manifests(facts, self._spec)
        return facts, triton.manifests(facts, self._spec, self._stable(path, now, facts))

    def _stable(
        self, path: Path, now: tuple[dict[str, Any], ...], facts: Facts
    ) -> tuple[dict[str, Any], ...]:
        """What keeps serving beside a canary; nothing without one."""
        if self._spec.canary_pct is None:
            return ()
        stable = triton.stable_objects(now)
        if not stable:
            raise ConfigError(
                "canary_pct",
                "needs a version that serves now, beside which the new one is tried",
                got=f"none in {path}",
                fix="Promote the first version without it.",
            )
        if (
            _annotation(stable[0], "calib/package-sha256")
            == facts.annotations["calib/package-sha256"]
        ):
            raise ConfigError(
                "canary_pct",
                "is of no use: this very package serves all requests already",
                got=f"version {_annotation(stable[0], 'calib/version')}",
                fix="Promote another run.",
            )
        return stable

    def _version(self, package: Package, now: tuple[dict[str, Any], ...]) -> int:
        """The number asked for; that of the same package; or the next one."""
        if self._options.version is not None:
            if self._options.version < 1:
                raise ConfigError(
                    "--version", "is no version", got=self._options.version, expected="1 or more"
                )
            return self._options.version
        digest, highest = package.sha256, 0
        for document in now:
            number = int(_annotation(document, "calib/version") or 0)
            if _annotation(document, "calib/package-sha256") == digest:
                return number
            highest = max(highest, number)
        return highest + 1

    def _said(
        self, facts: Facts, documents: tuple[dict[str, Any], ...], path: Path
    ) -> Iterator[str]:
        kinds = ", ".join(document["kind"] for document in documents)
        yield f"{path}: {facts.model} version {facts.version} as {facts.name}: {kinds}"
        gpus = f", {facts.gpus} GPU" if facts.gpus else ""
        yield f"each pod: {facts.cpus} CPU, {facts.memory_mb} MiB{gpus}"
        if self._spec.canary_pct is not None:
            yield self._share()
        if self._spec.mode == "Serverless" and self._spec.claim:
            yield "Knative needs its flag kubernetes.podspec-persistent-volume-claim for pvc://"
        if not has_latency(facts):
            yield "no alert on latency: the run measured no 99th percentile of what is served"

    def _share(self) -> str:
        spec = self._spec
        if spec.kind == "kserve":
            return f"canary: {spec.canary_pct} % of the requests, by KServe on Knative"
        share = triton.canary_share_pct(spec)
        by = f"gateway {spec.gateway}" if spec.gateway else "number of pods"
        return f"canary: {share:.3g} % of the requests, by the {by}"


def _refuse_other(path: Path, now: tuple[dict[str, Any], ...], facts: Facts) -> None:
    """A file with somebody else's objects is not overwritten."""
    for document in now:
        meta = document.get("metadata") or {}
        labels = meta.get("labels") or {}
        if labels.get("app.kubernetes.io/managed-by") != "calib":
            raise StoreError(
                str(path), "holds what calib did not write", fix="Name another file or folder."
            )
        name = _annotation(document, "calib/name") or facts.model
        if labels.get("app.kubernetes.io/name") != facts.name or name != facts.model:
            raise StoreError(
                str(path),
                "holds another model",
                got=f"{name}, as {labels.get('app.kubernetes.io/name')}",
                expected=f"{facts.model}, as {facts.name}",
                fix="Give a folder instead of a file, or another file.",
            )


def _annotation(document: dict[str, Any], key: str) -> str | None:
    found = (document.get("metadata", {}).get("annotations") or {}).get(key)
    return None if found is None else str(found)


def _read(path: Path) -> tuple[dict[str, Any], ...]:
    """The objects that are there now."""
    if not path.is_file():
        return ()
    try:
        found = [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
    if not all(isinstance(document, dict) for document in found):
        raise StoreError(str(path), "holds no manifests", fix="Name another file or folder.")
    return tuple(found)


class _Dumper(yaml.SafeDumper):
    """Without anchors, which tools that read one document at a time lose; scripts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base asks
        """See `yaml.SafeDumper`."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _text(documents: tuple[dict[str, Any], ...]) -> str:
    """The objects as YAML: in the order that people write them, the same bytes each time."""
    parts = [
        yaml.dump(d, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
        for d in documents
    ]
    return _HEAD + "---\n".join(parts)
