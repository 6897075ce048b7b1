"""Where integers run in a model for ONNX Runtime, and what that was chosen by."""

from pydantic import Field

from calib.record import Record


class PlacementTrial(Record):
    """One placement, measured on calibration samples that were kept aside."""

    name: str = Field(description="As in `quantization.placement`.")
    what: str = Field(description="A sentence for the report's reader.")
    sqnr_db: float = Field(description="At the model's scores, against FP32's.")
    median_ms: float = Field(description="Of one batch, in rounds that all placements share.")
    rounds: int
    kept: bool


class PlacementRecord(Record):
    """What was tried, and why one was taken."""

    samples: int = Field(description="Kept aside.")
    batch_size: int = Field(description="Of the batch that was timed.")
    bound_db: float = Field(description="What a faster placement may lose.")
    trials: tuple[PlacementTrial, ...]
    why: str = Field(description="A sentence.")
