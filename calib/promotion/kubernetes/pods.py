"""Pods with Triton in them: a Deployment, and who may do what in it."""

from typing import Any

from calib.promotion.kubernetes.facts import Facts
from calib.promotion.kubernetes.settings import KubernetesSpec

STABLE, CANARY = "stable", "canary"
TRACK = "calib/track"
HTTP, GRPC, METRICS = 8000, 8001, 8002
_USER = 1000
"""`triton-server` of NVIDIA's image."""
_ROOM_MB = 64
TMP = "/tmp"  # noqa: S108 - the container's own
# The version is copied off the repository, so that no later promotion changes what a running pod
# reads; a file that is not one of those that were judged ends the pod before it serves.
_FETCH = """\
from="/repository/$FOLDER$MODEL" to="/models/$MODEL"
mkdir -p "$to"
cp -r "$from/$VERSION" "$to/"
cp "$from/$VERSION/config.pbtxt" "$to/config.pbtxt"
if [ -d "$from/warmup/$VERSION" ]; then
  mkdir -p "$to/warmup"
  cp -r "$from/warmup/$VERSION" "$to/warmup/"
fi
models=0
for file in "$to/$VERSION"/*; do
  case $file in *.onnx | *.onnx.* | *.plan) ;; *) continue ;; esac
  sum=$(sha256sum "$file")
  case " $DIGESTS " in
    *" ${sum%% *} "*) models=$((models + 1)) ;;
    *) echo "$file is not what was judged: SHA-256 ${sum%% *}" >&2; exit 1 ;;
  esac
done
[ "$models" -gt 0 ] || { echo "no model in $from/$VERSION" >&2; exit 1; }
"""


def deployment(
    facts: Facts, spec: KubernetesSpec, metadata: dict[str, Any], track: str, replicas: int
) -> dict[str, Any]:
    """A Deployment of apps/v1.

    Args:
        facts: of the version that it serves.
        spec: the settings.
        metadata: of the object.
        track: stable or canary.
        replicas: number of pods.
    """
    selector = {"app.kubernetes.io/name": facts.name, TRACK: track}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 5,
            "selector": {"matchLabels": selector},
            # A pod goes when another one serves.
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": {**facts.labels, TRACK: track},
                    "annotations": facts.annotations,
                },
                "spec": _pod(facts, spec),
            },
        },
    }


def resources(facts: Facts) -> dict[str, Any]:
    """Requests equal to limits: what was measured is what there is (QoS class Guaranteed)."""
    amounts: dict[str, Any] = {"cpu": str(facts.cpus), "memory": f"{facts.memory_mb}Mi"}
    if facts.gpus:
        amounts["nvidia.com/gpu"] = str(facts.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def locked() -> dict[str, Any]:
    """What a container may not do."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container_user() -> dict[str, Any]:
    """Who the containers are."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _pod(facts: Facts, spec: KubernetesSpec) -> dict[str, Any]:
    pod: dict[str, Any] = {"automountServiceAccountToken": False}
    if spec.service_account:
        pod["serviceAccountName"] = spec.service_account
    if spec.pull_secret:
        pod["imagePullSecrets"] = [{"name": spec.pull_secret}]
    pod["securityContext"] = {**container_user(), "fsGroup": _USER}
    pod["terminationGracePeriodSeconds"] = 60
    if spec.claim:
        pod["initContainers"] = [_fetch(facts, spec)]
    pod["containers"] = [_server(facts, spec)]
    pod["volumes"] = _volumes(facts, spec)
    return pod


def _fetch(facts: Facts, spec: KubernetesSpec) -> dict[str, Any]:
    folder = spec.address(facts.model, facts.version).partition("://")[2].partition("/")[2]
    folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
    values = {
        "DIGESTS": " ".join(facts.digests),
        "FOLDER": folder,
        "MODEL": facts.model,
        "VERSION": str(facts.version),
    }
    return {
        "name": "fetch",
        "image": spec.image,
        "command": ["/bin/sh", "-euc"],
        "args": [_FETCH],
        "env": [{"name": name, "value": value} for name, value in values.items()],
        "resources": {
            "requests": {"cpu": "1", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": locked(),
        "volumeMounts": [
            {"name": "repository", "mountPath": "/repository", "readOnly": True},
            {"name": "models", "mountPath": "/models"},
        ],
    }


def _server(facts: Facts, spec: KubernetesSpec) -> dict[str, Any]:
    where = "/models" if spec.claim else spec.address(facts.model, facts.version)
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": TMP}]
    if spec.claim:
        mounts.append({"name": "models", "mountPath": "/models", "readOnly": True})
    return {
        "name": "triton",
        "image": spec.image,
        "command": ["tritonserver"],
        "args": [
            f"--model-repository={where}",
            "--model-control-mode=explicit",
            f"--load-model={facts.model}",
            "--exit-on-error=true",
            "--exit-timeout-secs=45",
            # The alert on slowness reads its quantiles.
            "--metrics-config=summary_latencies=true",
        ],
        "env": [{"name": "HOME", "value": TMP}],
        "ports": [
            {"name": "http", "containerPort": HTTP},
            {"name": "grpc", "containerPort": GRPC},
            {"name": "metrics", "containerPort": METRICS},
        ],
        "resources": resources(facts),
        "securityContext": locked(),
        # Loading an engine, and warming it up, may take minutes; later ten seconds are too long.
        "startupProbe": _probe("/v2/health/ready", failures=60),
        "readinessProbe": _probe("/v2/health/ready", failures=2),
        "livenessProbe": _probe("/v2/health/live", failures=3),
        "volumeMounts": mounts,
    }


def _probe(path: str, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _volumes(facts: Facts, spec: KubernetesSpec) -> list[dict[str, Any]]:
    room = f"{2 * facts.files_mb + _ROOM_MB}Mi"
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": room}}]
    if spec.claim:
        volumes += [
            {"name": "models", "emptyDir": {"sizeLimit": room}},
            {
                "name": "repository",
                "persistentVolumeClaim": {"claimName": spec.claim[0], "readOnly": True},
            },
        ]
    return volumes
