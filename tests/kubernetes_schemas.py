"""What the custom resources that are written must look like, from their documentation.

Only the fields that are written, each with its type, and no other: a typo is an error.
"""

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_LABELS = {
    "type": "object",
    "propertyNames": {"pattern": r"^([a-z0-9.-]+/)?[A-Za-z0-9][-_.A-Za-z0-9]*$"},
    "additionalProperties": {
        "type": "string",
        "maxLength": 63,
        "pattern": r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$",
    },
}
_DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}


def _closed(required=(), **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(item):
    return {"type": "array", "items": item, "minItems": 1}


METADATA = _closed(
    ["name", "labels"], name=_LABEL, namespace=_LABEL, labels=_LABELS, annotations=_TEXTS
)


def _object(version, kind, spec):
    return _closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
    )


_AMOUNTS = _closed(
    ["cpu", "memory"],
    **{
        "cpu": {"type": "string", "pattern": "^[0-9]+$"},
        "memory": {"type": "string", "pattern": "^[0-9]+Mi$"},
        "nvidia.com/gpu": {"type": "string", "pattern": "^[0-9]+$"},
    },
)
_MODEL = _closed(
    ["modelFormat", "storageUri"],
    modelFormat=_closed(["name"], name=_TEXT, version=_TEXT),
    runtime=_LABEL,
    runtimeVersion={"type": "string", "pattern": "^[0-9]+[.][0-9]+"},
    protocolVersion={"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
    storageUri={"type": "string", "pattern": "^[a-z0-9]+://.+"},
    args=_list({"type": "string", "pattern": "^--[a-z-]+=.+"}),
    resources=_closed(["requests", "limits"], requests=_AMOUNTS, limits=_AMOUNTS),
    securityContext=_closed(
        runAsNonRoot={"const": True},
        runAsUser={"type": "integer", "minimum": 1},
        runAsGroup={"type": "integer", "minimum": 1},
        seccompProfile=_closed(type={"const": "RuntimeDefault"}),
        allowPrivilegeEscalation={"const": False},
        readOnlyRootFilesystem={"const": True},
        capabilities=_closed(drop={"const": ["ALL"]}),
    ),
    volumeMounts=_list(_closed(["name", "mountPath"], name=_LABEL, mountPath=_TEXT)),
    readinessProbe=_closed(
        httpGet=_closed(["path", "port"], path=_TEXT, port={"type": "integer"}),
        periodSeconds={"type": "integer"},
        timeoutSeconds={"type": "integer"},
        failureThreshold={"type": "integer"},
    ),
)
_PREDICTOR = _closed(
    ["model"],
    minReplicas={"type": "integer", "minimum": 0},
    canaryTrafficPercent={"type": "integer", "minimum": 0, "maximum": 100},
    serviceAccountName=_LABEL,
    imagePullSecrets=_list(_closed(name=_LABEL)),
    automountServiceAccountToken={"type": "boolean"},
    model=_MODEL,
    volumes=_list(_closed(["name", "emptyDir"], name=_LABEL, emptyDir=_closed())),
)
_RULE = _closed(
    ["alert", "expr"],
    alert={"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
    expr=_TEXT,
    **{"for": _DURATION},
    labels=_TEXTS,
    annotations=_TEXTS,
)
_BACKEND = _closed(
    ["name", "port", "weight"],
    name=_LABEL,
    port={"type": "integer"},
    weight={"type": "integer", "minimum": 0, "maximum": 100},
)
SCHEMAS = {
    "InferenceService": _object(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        _closed(["predictor"], predictor=_PREDICTOR),
    ),
    "PrometheusRule": _object(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _closed(
            ["groups"], groups=_list(_closed(["name", "rules"], name=_TEXT, rules=_list(_RULE)))
        ),
    ),
    "ServiceMonitor": _object(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        _closed(
            ["selector", "endpoints"],
            selector=_closed(matchLabels=_LABELS),
            endpoints=_list(_closed(["port"], port=_TEXT, path=_TEXT, interval=_DURATION)),
        ),
    ),
    "HTTPRoute": _object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        _closed(
            parentRefs=_list(_closed(["name"], name=_LABEL)),
            rules=_list(
                _closed(
                    matches=_list(_closed(path=_closed(type={"const": "PathPrefix"}, value=_TEXT))),
                    backendRefs=_list(_BACKEND),
                )
            ),
        ),
    ),
}
