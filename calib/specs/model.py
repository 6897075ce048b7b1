"""Where the FP32 model comes from."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from calib.specs.base import Spec


class _ModelSpec(Spec):
    batch_axes: dict[str, int | None] = Field(
        default_factory=dict,
        description="By input or output name: the axis along which samples lie side by side; null "
        "for an input that a batch shares, or an output that has no row of each sample's own. "
        "Found from the names of axes, or by running one sample and two, where absent.",
    )


class OnnxFileSpec(_ModelSpec):
    """A model that is already there."""

    kind: Literal["onnx"] = "onnx"
    path: Path = Field(description="The FP32 ONNX file.")


class PythonModelSpec(_ModelSpec):
    """A model that a function makes, and keeps until something it is made from changes."""

    kind: Literal["python"] = "python"
    entry: str = Field(
        pattern=r"^[\w.]+:\w+$", description="`module:function`; it returns the ONNX file's path."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for it.")


ModelSpec = Annotated[OnnxFileSpec | PythonModelSpec, Field(discriminator="kind")]
