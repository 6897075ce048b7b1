"""What went in: the model, the data, the machine."""

from pydantic import Field

from calib.record import Record
from calib.results.kinds import ModelPrecision


class TensorSpec(Record):
    """A model input or output; an axis is a size, or the name of a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class ModelRecord(Record):
    """The model under test."""

    path: str
    sha256: str
    size_bytes: int
    opset: int
    ir_version: int
    producer: str
    precision: ModelPrecision = Field(
        default=ModelPrecision.FP32, description="What its weighted operators compute in."
    )
    parameters: int = Field(description="Number of scalars in floating-point initializers.")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    warnings: tuple[str, ...] = ()


class DatasetRecord(Record):
    """One split, as it was read."""

    kind: str = Field(description="The loader's kind, e.g. text.")
    source: str = Field(description="Where the samples came from, for a person to read.")
    casts: dict[str, str] = Field(
        default_factory=dict, description="By input: what its arrays were cast to, and from what."
    )
    samples: int
    labelled: int
    batches: int
    dropped: int = Field(default=0, description="Samples left out: an input holds NaN or infinity.")
    dropped_ids: tuple[str, ...] = Field(default=(), description="The first of them.")
    sha256: str = Field(description="Over the sorted sample ids and content digests.")
    shapes: dict[str, tuple[tuple[int, int, int], ...]] = Field(
        description="Per input and axis after the batch axis: (minimum, median, maximum) size."
    )
    label_counts: dict[str, int] = Field(
        default_factory=dict, description="Classification: number of samples by class name."
    )


class DataRecord(Record):
    """Both splits; content shared by the two is refused, so it is always zero here."""

    calibration: DatasetRecord
    validation: DatasetRecord


class Environment(Record):
    """Where and with what the numbers were taken."""

    hostname_sha256: str = Field(description="First 12 hex digits: tells machines apart.")
    platform: str
    cpu: str
    logical_cores: int
    memory_bytes: int
    gpu: str | None
    python: str
    packages: dict[str, str]
    backend: str
    backend_details: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
