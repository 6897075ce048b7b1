"""What the model's output means."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _TaskSpec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str | None = Field(
        default=None, description="The output that is scored; the model's first if absent."
    )


class ClassificationSpec(_TaskSpec):
    """Logits or probabilities, (batch, classes); the largest wins, of equals the first."""

    kind: Literal["classification"] = "classification"


class RegressionSpec(_TaskSpec):
    """A number a sample, or several; scored by absolute error."""

    kind: Literal["regression"] = "regression"


class EmbeddingSpec(_TaskSpec):
    """A vector a sample; scored by its cosine to FP32's."""

    kind: Literal["embedding"] = "embedding"


TaskSpec = Annotated[
    ClassificationSpec | RegressionSpec | EmbeddingSpec, Field(discriminator="kind")
]
