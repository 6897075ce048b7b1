"""Triton behind a Service: one Deployment, or two of them during a canary."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from calib.promotion.kubernetes.alerts import prometheus_rule
from calib.promotion.kubernetes.facts import Facts
from calib.promotion.kubernetes.pods import CANARY, GRPC, HTTP, METRICS, STABLE, TRACK, deployment
from calib.promotion.kubernetes.settings import KubernetesSpec

Manifest = dict[str, Any]


def canary_pods(spec: KubernetesSpec) -> int:
    """Pods of the canary: the old version keeps all of its own, so that going back costs nothing.

    With a gateway they only have to bear their share; without one they are the share: the nearest
    number to it, and one at least.
    """
    share = spec.canary_pct or 0
    if spec.gateway:
        return max(1, math.ceil(spec.replicas * share / 100))
    return max(1, round(spec.replicas * share / (100 - share)))


def canary_share_pct(spec: KubernetesSpec) -> float:
    """What the canary really gets of the requests, in %."""
    if spec.gateway:
        return float(spec.canary_pct or 0)
    pods = canary_pods(spec)
    return 100 * pods / (spec.replicas + pods)


def manifests(
    facts: Facts, spec: KubernetesSpec, stable: tuple[Manifest, ...]
) -> tuple[Manifest, ...]:
    """All objects.

    Args:
        facts: of the version that is promoted.
        spec: the settings.
        stable: during a canary, the objects of the version that serves now (its Deployment and
            its rule), which stay as they are; empty otherwise.
    """
    own = tuple(_of_version(facts, spec, CANARY if stable else STABLE))
    return (*_shared(facts, spec, is_canary=bool(stable)), *stable, *own)


def stable_objects(documents: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
    """The objects of the version that serves now, among all that were written."""
    return tuple(d for d in documents if _labels(d).get(TRACK) == STABLE)


def _labels(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("metadata", {}).get("labels", {})
    return found


def metadata(
    facts: Facts, spec: KubernetesSpec, name: str, labels: Mapping[str, str], *, versioned: bool
) -> Manifest:
    """Of an object; with whose model it is, if that is fixed for it."""
    found: Manifest = {"name": name}
    if spec.namespace:
        found["namespace"] = spec.namespace
    found["labels"] = {**facts.labels, **labels}
    if versioned:
        digest = facts.annotations["calib/model-sha256"][:16]
        found["labels"] |= {"app.kubernetes.io/version": str(facts.version), "calib/model": digest}
        found["annotations"] = facts.annotations
    return found


def _of_version(facts: Facts, spec: KubernetesSpec, track: str) -> Iterator[Manifest]:
    canary = track == CANARY
    name = f"{facts.name}-canary" if canary else facts.name
    replicas = canary_pods(spec) if canary else spec.replicas
    own = metadata(facts, spec, name, {TRACK: track}, versioned=True)
    yield deployment(facts, spec, own, track, replicas)
    labels = {TRACK: track, **spec.monitor_labels}
    yield prometheus_rule(facts, spec, metadata(facts, spec, name, labels, versioned=True))


def _shared(facts: Facts, spec: KubernetesSpec, *, is_canary: bool) -> Iterator[Manifest]:
    yield _service(facts, spec, facts.name, {})
    yield {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(facts, spec, facts.name, spec.monitor_labels, versioned=False),
        "spec": {
            # Only the Service that has all pods: those of the tracks would count them twice.
            "selector": {"matchLabels": {"app.kubernetes.io/name": facts.name, "calib/all": "yes"}},
            "endpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
        },
    }
    if spec.gateway:
        weights = {STABLE: 100 - (spec.canary_pct or 0)} if is_canary else {STABLE: 100}
        if is_canary:
            weights[CANARY] = spec.canary_pct or 0
        for track in weights:
            yield _service(facts, spec, f"{facts.name}-to-{track}", {TRACK: track})
        yield _route(facts, spec, weights)


def _service(
    facts: Facts, spec: KubernetesSpec, name: str, selected: Mapping[str, str]
) -> Manifest:
    ports = {"http": HTTP, "grpc": GRPC, "metrics": METRICS}
    labels = {} if selected else {"calib/all": "yes"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(facts, spec, name, labels, versioned=False),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app.kubernetes.io/name": facts.name, **selected},
            "ports": [
                {"name": port, "port": number, "targetPort": port} for port, number in ports.items()
            ],
        },
    }


def _route(facts: Facts, spec: KubernetesSpec, weights: Mapping[str, int]) -> Manifest:
    """An HTTPRoute of the Gateway API (gateway.networking.k8s.io/v1)."""
    backends = [
        {"name": f"{facts.name}-to-{track}", "port": HTTP, "weight": weight}
        for track, weight in weights.items()
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(facts, spec, facts.name, {}, versioned=False),
        "spec": {
            "parentRefs": [{"name": spec.gateway}],
            "rules": [
                {
                    "matches": [
                        {"path": {"type": "PathPrefix", "value": f"/v2/models/{facts.model}"}}
                    ],
                    "backendRefs": backends,
                }
            ],
        },
    }
