"""Who shares the passes over data: what the config says."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

WORKERS_MAX = 1024


class _SharedSpec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="How often a shard is tried whose worker dies, before the run ends.",
    )


class LocalSpec(_SharedSpec):
    """Processes of this machine."""

    kind: Literal["local"] = "local"
    workers: int = Field(
        default=1,
        ge=1,
        le=WORKERS_MAX,
        description="Processes that share a pass over data; `--jobs` overrides it. The results "
        "are the same.",
    )


class RaySpec(_SharedSpec):
    """Actors of a Ray cluster, or of Ray on this machine alone; needs `calib[ray]`."""

    kind: Literal["ray"] = "ray"
    workers: int = Field(
        default=2,
        ge=1,
        le=WORKERS_MAX,
        description="Actors that share a pass over data; `--jobs` overrides it. The results are "
        "the same.",
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        description="Of a cluster that is running: `auto` where this machine belongs to it, or "
        "`host:port`. Null starts Ray on this machine, and ends it.",
    )


def _local_by_default(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "local", **value}
    return value


ExecutionSpec = Annotated[
    LocalSpec | RaySpec, Field(discriminator="kind"), BeforeValidator(_local_by_default)
]
