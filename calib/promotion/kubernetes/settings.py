"""What the run cannot say of a served model: where its repository is, what the cluster has."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from calib.errors import ConfigError
from calib.settings import parse, read_yaml, with_overrides

_REPOSITORY = re.compile(r"(pvc|s3|gs|as|https?|hdfs)://[^/\s]+(/\S*)?")
_BY_TRITON = ("pvc", "s3", "gs", "as")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
Name = Annotated[str, StringConstraints(pattern=rf"^{_LABEL.pattern}$")]


class KubernetesSpec(BaseModel):
    """How a promoted model is served on a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["triton", "kserve"] = Field(
        default="triton",
        description="triton: Deployment, Service, ServiceMonitor, PrometheusRule. kserve: "
        "InferenceService, PrometheusRule.",
    )
    repository: str = Field(
        description="The Triton repository as the cluster sees it: pvc://CLAIM/FOLDER, s3://…, "
        "gs://…. {name} and {version} stand for the model's; without pvc://, and with KServe, "
        "{version} must be in it: what a pod reads anew must not have changed."
    )
    namespace: Name | None = Field(default=None, description="Left to kubectl if absent.")
    image: str = Field(
        default="nvcr.io/nvidia/tritonserver:25.10-py3",
        pattern=r"^\S+[:@]\S+$",
        description="triton: the server's image, with tag or digest; kserve: only its tag is "
        "taken. An engine runs only with the TensorRT that built it.",
    )
    runtime: Name = Field(
        default="kserve-tritonserver", description="kserve: the ServingRuntime that has Triton."
    )
    mode: Literal["Serverless", "RawDeployment"] | None = Field(
        default=None,
        description="kserve: the deployment mode; the cluster's if absent. KServe lets nobody "
        "change it later, and splits requests only in Serverless (on Knative).",
    )
    replicas: int = Field(default=2, ge=1, description="Pods, without those of a canary.")
    canary_pct: int | None = Field(
        default=None,
        ge=0,
        le=99,
        description="Share of the requests that the new version gets beside the old one; all if "
        "absent. kserve: 0 takes all back.",
    )
    gateway: Name | None = Field(
        default=None,
        description="triton: a Gateway whose HTTPRoute splits requests exactly; without one the "
        "share is that of the pods.",
    )
    instances: int | None = Field(
        default=None,
        ge=1,
        description="Copies of the model in a pod, as config.pbtxt has them: the number that "
        "`--to triton:` writes if absent.",
    )
    memory_mb: int | None = Field(
        default=None, ge=64, description="Of a pod; from the measured peak if absent."
    )
    server_memory_mb: int = Field(
        default=512,
        ge=0,
        description="Triton itself: an allowance, not measured.",
    )
    cpus: int | None = Field(
        default=None, ge=1, description="Of a pod; threads and instances as measured if absent."
    )
    gpus: int = Field(default=1, ge=1, description="Of a pod, if an engine is served.")
    latency_slack_pct: float = Field(
        default=50.0, ge=0, description="How far above the measured p99 the served one may be."
    )
    failures_pct_max: float = Field(
        default=1.0, gt=0, lt=100, description="Failed requests that raise an alert."
    )
    monitor_labels: dict[str, str] = Field(
        default_factory=dict,
        description="By which the Prometheus operator finds monitors and rules, e.g. release.",
    )
    service_account: Name | None = Field(default=None, description="Of the pods.")
    pull_secret: Name | None = Field(default=None, description="For the image.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        scheme = self.repository.partition("://")[0]
        if self.kind == "kserve" and ":" not in self.image.partition("@")[0].rpartition("/")[2]:
            raise ValueError("image: KServe needs its tag")
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError("repository is no pvc://CLAIM/FOLDER, s3://…, gs://… or as://…")
        if self.kind == "triton" and scheme not in _BY_TRITON:
            raise ValueError(f"repository: Triton reads {', '.join(_BY_TRITON)}, not {scheme}")
        if scheme == "pvc" and not _LABEL.fullmatch(self.repository.split("/")[2]):
            raise ValueError("repository: the claim's name is none that Kubernetes takes")
        pinned = self.kind == "triton" and scheme == "pvc"
        if not pinned and "{version}" not in self.repository:
            raise ValueError(
                "repository needs {version}, e.g. s3://bucket/models/{version}: a pod that starts "
                "again would read what has been promoted since"
            )
        if self.kind == "triton" and self.canary_pct == 0:
            raise ValueError("canary_pct 0 is no canary: promote the version that is to serve")
        if self.kind == "kserve" and self.canary_pct is not None and self.mode != "Serverless":
            raise ValueError(
                "canary_pct needs mode: Serverless, from the first version on: elsewhere KServe "
                "sends all requests to the new one at once"
            )
        return self

    @property
    def claim(self) -> tuple[str, str] | None:
        """Name of the volume's claim and the folder in it, where the repository is on one."""
        scheme, _, rest = self.repository.partition("://")
        name, _, folder = rest.partition("/")
        return (name, folder.strip("/")) if scheme == "pvc" else None

    def address(self, name: str, version: int) -> str:
        """The repository of one model's version."""
        return self.repository.replace("{name}", name).replace("{version}", str(version))


def read_place(text: str) -> tuple[Path, KubernetesSpec]:
    """The path and the settings of `PATH?settings=FILE&field=value&…`; the fields win.

    Raises:
        ConfigError: if a setting is unknown, missing or wrong.
    """
    path, _, query = text.partition("?")
    fields = [part for part in query.split("&") if part]
    files = [part.removeprefix("settings=") for part in fields if part.startswith("settings=")]
    if not path or len(files) > 1:
        raise ConfigError(f"--to kubernetes:{text}", "is no place", expected="PATH?settings=FILE")
    content = read_yaml(Path(files[0])) if files else {}
    others = [part for part in fields if not part.startswith("settings=")]
    if "repository" not in content and not any(p.startswith("repository=") for p in others):
        raise ConfigError(
            f"--to kubernetes:{text}",
            "does not say where pods find the Triton repository",
            expected=f"kubernetes:{path}?repository=pvc://CLAIM/FOLDER, or ?settings=FILE with it",
        )
    where = Path(files[0]) if files else Path(f"--to kubernetes:{path}")
    return Path(path), parse(KubernetesSpec, with_overrides(content, others), where)
