"""Cache: thresholds that somebody else found."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from calib.calibrators.trt_cache import INT8_MAX, is_usable, load_cache
from calib.errors import StoreError


class CacheSpec(BaseModel):
    """The scales of a TensorRT calibration cache, or of a scales.json: a candidate like any other.

    So the calibration that is in production today is judged beside the one that is to replace it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cache"] = "cache"
    path: Path = Field(
        description="A calibration cache, or a .json of scale (threshold / 127) by tensor, as "
        "`calib cache import` writes it."
    )
    name: str = Field(
        default="cache",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Names the candidate in reports.",
    )
    missing: Literal["refuse", "minmax"] = Field(
        default="refuse", description="What to do about a tensor that has no scale there."
    )


def load_scales(path: Path) -> dict[str, float]:
    """Usable float scales by tensor from a calibration cache or a scales.json.

    Raises:
        StoreError: if there is no such file, or it is neither.
    """
    if path.suffix != ".json":
        return {name: scale for name, scale in load_cache(path).scales.items() if is_usable(scale)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scales = {str(name): float(scale) for name, scale in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            str(path), f"holds no scales: {error}", expected='{"tensor": scale, ...}'
        ) from error
    return {name: scale for name, scale in scales.items() if is_usable(scale)}


def load_amax(path: Path) -> dict[str, float]:
    """Clipping threshold by tensor; see `load_scales`."""
    return {name: scale * INT8_MAX for name, scale in load_scales(path).items()}
