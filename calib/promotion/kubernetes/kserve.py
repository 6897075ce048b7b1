"""An InferenceService of KServe (serving.kserve.io/v1beta1) with Triton as its runtime."""

from typing import Any

from calib.promotion.kubernetes.alerts import prometheus_rule
from calib.promotion.kubernetes.facts import Facts
from calib.promotion.kubernetes.pods import TMP, container_user, locked, resources
from calib.promotion.kubernetes.settings import KubernetesSpec
from calib.promotion.kubernetes.triton import Manifest, metadata


def manifests(facts: Facts, spec: KubernetesSpec) -> tuple[Manifest, ...]:
    """The service and its rule.

    KServe knows by itself which revision served last, and gives it what a canary does not get.

    Args:
        facts: of the version that is promoted.
        spec: the settings.
    """
    own = metadata(facts, spec, facts.name, {}, versioned=True)
    annotations = {**own["annotations"], "serving.kserve.io/enable-prometheus-scraping": "true"}
    if spec.mode is not None:
        annotations["serving.kserve.io/deploymentMode"] = spec.mode
    own["annotations"] = dict(sorted(annotations.items()))
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": own,
        "spec": {"predictor": _predictor(facts, spec)},
    }
    labels = dict(spec.monitor_labels)
    rule = metadata(facts, spec, facts.name, labels, versioned=True)
    return (service, prometheus_rule(facts, spec, rule))


def _predictor(facts: Facts, spec: KubernetesSpec) -> dict[str, Any]:
    predictor: dict[str, Any] = {"minReplicas": spec.replicas}
    if spec.canary_pct is not None:
        predictor["canaryTrafficPercent"] = spec.canary_pct
    if spec.service_account:
        predictor["serviceAccountName"] = spec.service_account
    if spec.pull_secret:
        predictor["imagePullSecrets"] = [{"name": spec.pull_secret}]
    predictor["automountServiceAccountToken"] = False
    predictor["model"] = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": spec.runtime,
        "runtimeVersion": _tag(spec.image),
        "protocolVersion": "v2",
        "storageUri": spec.address(facts.model, facts.version),
        "args": [
            "--model-control-mode=explicit",
            f"--load-model={facts.model}",
            "--exit-on-error=true",
            "--metrics-config=summary_latencies=true",
        ],
        "resources": resources(facts),
        # All of it here: Knative takes no pod's security context unless it is told to.
        "securityContext": {**locked(), **container_user()},
        # Its root may not be written.
        "volumeMounts": [{"name": "tmp", "mountPath": TMP}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": 8080},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }
    predictor["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    return predictor


def _tag(image: str) -> str:
    """What follows the image's last colon, without a digest."""
    return image.partition("@")[0].rpartition(":")[2]
