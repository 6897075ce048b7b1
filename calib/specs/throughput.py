"""How speed is measured, as the config says it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ThroughputSpec(BaseModel):
    """How speed is measured: engines take turns, so that a busy machine slows all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_sizes: tuple[Annotated[int, Field(ge=1, le=2**24)], ...] = Field(
        default=(1, 8), description="Batch sizes to time; empty = do not measure speed."
    )
    threads: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(),
        description="ONNX Runtime: numbers of threads to time; empty = the backend's setting. Each "
        "is combined with each batch size: an operating point.",
    )
    warmup_runs: int = Field(
        default=3, ge=1, le=10**6, description="Fewest untimed runs of each engine first."
    )
    warmup_tolerance_pct: float = Field(
        default=5.0,
        gt=0,
        le=100,
        description="The warm-up of an operating point ends when the medians of the last 5 runs "
        "and of the 5 before differ by no more than this, in %, of every engine.",
    )
    warmup_seconds_max: float = Field(
        default=10.0,
        gt=0,
        description="The warm-up of an operating point ends after this long, steady or not, in "
        "seconds.",
    )
    runs: int = Field(
        default=50,
        ge=1,
        le=10**6,
        description="Timed runs of each engine at each operating point; p90 needs 10, p99 100.",
    )
    seconds_max: float = Field(
        default=20.0,
        gt=0,
        description="No further round of an operating point starts after this long, in seconds: "
        "of all engines together, warm-up not counted.",
    )
