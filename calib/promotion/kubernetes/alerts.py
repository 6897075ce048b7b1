"""Alerts on what Triton counts, with thresholds from what the run measured."""

from collections.abc import Iterator
from typing import Any

from calib.promotion.kubernetes.facts import Facts
from calib.promotion.kubernetes.settings import KubernetesSpec

_WINDOW = "10m"
_MS = 1000  # microseconds


def prometheus_rule(facts: Facts, spec: KubernetesSpec, metadata: dict[str, Any]) -> dict[str, Any]:
    """A PrometheusRule of the Prometheus operator (monitoring.coreos.com/v1).

    Args:
        facts: of the version that is promoted.
        spec: the settings.
        metadata: of the object.
    """
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {
            "groups": [{"name": f"calib.{facts.name}", "rules": list(_rules(facts, spec))}],
        },
    }


def has_latency(facts: Facts) -> bool:
    """Whether there is a measured p99 to hold the served model to."""
    return facts.latency is not None and facts.latency.p99_ms is not None


def _rules(facts: Facts, spec: KubernetesSpec) -> Iterator[dict[str, Any]]:
    series = f'model="{facts.model}",version="{facts.version}"'
    if spec.namespace:
        series += f',namespace="{spec.namespace}"'
    by = "sum by (namespace, model, version)"
    failed, succeeded = (
        f"{by} (rate(nv_inference_request_{what}{{{series}}}[{_WINDOW}]))"
        for what in ("failure", "success")
    )
    yield _rule(
        facts,
        "Fails",
        f"{failed} / ({succeeded} + {failed}) > {spec.failures_pct_max / 100:g}",
        "critical",
        f"More than {spec.failures_pct_max:g} % of the requests fail.",
    )
    yield _rule(
        facts,
        "Gone",
        f"absent(nv_inference_request_success{{{series}}})",
        "critical",
        "No server answers for the promoted version.",
    )
    point = facts.latency
    if point is None or point.p99_ms is None:
        return
    limit = round(point.p99_ms * _MS * (1 + spec.latency_slack_pct / 100))
    yield _rule(
        facts,
        "Slow",
        "max by (namespace, model, version, pod) "
        f'(nv_inference_compute_infer_summary_us{{{series},quantile="0.99"}}) > {limit}',
        "warning",
        f"The 99th percentile of the inference time is {spec.latency_slack_pct:g} % above the "
        f"{point.p99_ms:.3g} ms that the run measured at {point.point} on {facts.measured_on}.",
    )
    queued = f"{by} (rate(nv_inference_queue_duration_us{{{series}}}[{_WINDOW}]))"
    yield _rule(
        facts,
        "Waits",
        f"{queued} / {succeeded} > {round(point.p99_ms * _MS)}",
        "warning",
        f"Requests wait longer on average than the {point.p99_ms:.3g} ms that all but 1 % of the "
        "batches took in the run: there are too few pods.",
    )


def _rule(facts: Facts, what: str, expression: str, severity: str, said: str) -> dict[str, Any]:
    return {
        "alert": f"CalibModel{what}",
        "expr": expression,
        "for": _WINDOW,
        "labels": {"severity": severity, "calib_model": facts.model},
        "annotations": {
            "summary": f"{facts.model}, version {facts.version}: {said}",
            "run_id": facts.annotations["calib/run-id"],
            "model_sha256": facts.annotations["calib/model-sha256"],
        },
    }
