"""What every record on disk has in common."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen, strict value read from or written to disk."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", protected_namespaces=()
    )


class Precision(StrEnum):
    """The number format a candidate asks for."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
