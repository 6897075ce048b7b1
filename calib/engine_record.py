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
    kernel: str = Field(
        default="", description="ONNX Runtime: the operator that ran it, e.g. MatMulIntegerToFloat."
    )
    emulated: bool = Field(
        default=False, description="It ran in a wider type than the model has, behind Casts."
    )

    @property
    def is_demoted(self) -> bool:
        """Asked for INT8 and ran in something else, or was not found."""
        return self.asked == "int8" and self.ran != "int8"


class RanRecord(Record):
    """What ONNX Runtime made of a candidate, read from the graph that it optimized."""

    operators: dict[str, int] = Field(
        description="How many are integer, float, emulated in a wider type, a conversion of type "
        "or layout, or other: moving values, computing indices."
    )
    kernels: dict[str, int] = Field(description="How many there are of each kind of operator.")
    nodes: tuple[NodePrecision, ...] = Field(
        description="Every Conv, ConvTranspose, MatMul, Gemm of the model's main graph, and of 0 "
        "multiply-accumulates what else was asked for INT8 on every side."
    )
    int8_macs_pct: float | None = Field(description="Share of all known MACs that ran in INT8.")
    asked_int8_macs_pct: float | None = Field(description="Share that was asked for in INT8.")
    uncounted: dict[str, int] = Field(
        default_factory=dict,
        description="Operators that multiply and belong to none of `nodes`, e.g. in a Loop.",
    )
    problem: str = Field(default="", description="Why there is nothing of the above, if so.")

    @property
    def demoted(self) -> tuple[NodePrecision, ...]:
        """Asked for INT8 and ran in something else, or was not found."""
        return tuple(node for node in self.nodes if node.is_demoted)


class EngineIdentity(Record):
    """What an engine was built from and for; kept beside its file."""

    backend: str
    version: str
    target: str
    model_sha256: str
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    flags: dict[str, str]


class RebuildRecord(Record):
    """How far several builds of one engine differ."""

    builds: int
    layers_differ: int = Field(description="Layers whose name, precision or tactic is not in all.")
    weights_bytes: tuple[int | None, ...]
    seconds: tuple[float, ...]
    output_max_abs: float | None = Field(
        description="Largest difference of an output between builds; None where none ran."
    )
    p50_ms: tuple[float, ...] = Field(description="Median latency of each build that ran.")


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
    rebuilds: RebuildRecord | None = None
    layer_times_ms: dict[str, float] = Field(
        default_factory=dict, description="Mean time of each layer, where the engine ran."
    )
    timing: dict[str, bool] = Field(
        default_factory=dict, description="How its latencies were taken, where the engine ran."
    )
    ran_here: bool = Field(description="Whether outputs and latencies come from this engine.")
    why_not_run: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def demoted(self) -> tuple[NodePrecision, ...]:
        """Asked for INT8 and ran in something else, or was not found."""
        return tuple(node for node in self.nodes if node.is_demoted)
