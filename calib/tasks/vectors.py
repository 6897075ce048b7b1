"""Vectors that stand for a sample."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import output_of, refuse
from data_loaders.types import Array, Sample

Vector = NDArray[np.float64]


class VectorSpec(BaseModel):
    """Where the vector is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str | None = Field(
        default=None, description="A vector a sample; the model's first output if absent."
    )
    pooling: Literal["none", "mean", "first"] = Field(
        default="none", description="How (tokens, values) become one vector: mean by the mask."
    )


def unit_vector(outputs: Mapping[str, Array], name: str, pooling: str, sample: Sample) -> Vector:
    """A sample's vector of length 1; zeros if it is not finite.

    Raises:
        DataError: if the output is no vector, and no pooling makes it one.
    """
    array = output_of(outputs, name, sample).astype(np.float64)
    if pooling != "none":
        if array.ndim != 2:
            raise refuse(sample, "cannot be pooled", f"shape {array.shape}", "(tokens, values)")
        mask = sample.inputs.get("attention_mask")
        there = np.ones(len(array)) if mask is None else np.zeros(len(array))
        if mask is not None:
            there[: len(mask)] = mask.astype(np.float64)
        # Not a product with the mask: what lies under padding may be no number.
        array = array[0] if pooling == "first" else array[there > 0].mean(axis=0)
    vector = array.ravel() if 1 in (array.ndim, *array.shape[:-1]) else array
    if vector.ndim != 1:
        raise refuse(
            sample, f"{name} is no vector", f"shape {array.shape}", "one axis, or task.pooling"
        )
    length = float(np.linalg.norm(vector))
    return vector / length if np.isfinite(length) and length > 0 else np.zeros_like(vector)
