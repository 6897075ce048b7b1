"""What a builder made of a candidate: which precision each of its nodes really got."""

from pydantic import Field

from calib.record import Record


class EngineLayer(Record):
    """One layer of a built engine."""

    name: str
    kind: str = Field(description="The builder's own word, e.g. gemm, correlation, kgen.")
    nodes: tuple[str, ...] = Field(description="Names of the ONNX nodes fused into it.")
    precision: str = Field(
        description="What it multiplies in: int8 only if both operands are, else the wider one's."
    )
    input_types: tuple[str, ...]
    constant_types: tuple[str, ...]
    output_types: tuple[str, ...]
    tactic: str


class NodePrecision(Record):
    """A weighted ONNX node: what was asked for and what it ran in."""

    node: str
    op_type: str
    asked: str
    ran: str | None = Field(description="None if no layer of the engine names the node.")
    engine_layer: str
    macs: int | None = Field(description="Multiply-accumulates at the profile's optimum shape.")
    cause: str = Field(description="Where `ran` is not what was asked: the likely cause.")


class EngineRecord(Record):
    """One engine, built for one target."""

    backend: str
    version: str
    target: str = Field(description="Compute capability, e.g. 8.9, or the device's name.")
    seconds: float = Field(description="Time of the build.")
    plan_bytes: int
    plan_sha256: str
    weights_bytes: int | None
    activation_bytes: int | None
    peak_memory_bytes: int = Field(description="Peak resident memory of the building process.")
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = Field(
        description="Input name: (minimum, optimum, maximum) shape."
    )
    layers: tuple[EngineLayer, ...]
    nodes: tuple[NodePrecision, ...] = Field(description="Every Conv, ConvTranspose, MatMul, Gemm.")
    int8_macs_pct: float | None = Field(description="Share of all known MACs that ran in INT8.")
    ran_here: bool = Field(description="Whether outputs and latencies come from this engine.")
    why_not_run: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def demoted(self) -> tuple[NodePrecision, ...]:
        """Asked for INT8 and ran in something else, or was not found."""
        return tuple(n for n in self.nodes if n.asked == "int8" and n.ran != "int8")
