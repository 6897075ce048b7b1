"""config.pbtxt from what was measured: nothing in it is a guess."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from calib.errors import ModelError
from calib.graph.signature import Signature
from calib.promotion.capacity import cpu_instances
from calib.promotion.package import Package
from calib.promotion.triton.batching import Batching
from calib.promotion.triton.schema import schema
from calib.promotion.triton.served import ONNXRUNTIME, PLAN_NAME, TENSORRT, Served
from calib.promotion.triton.types import triton_type
from calib.promotion.triton.warmup import WarmUp
from calib.results import TensorSpec

DIGEST_KEY = "calib.package_sha256"
_LEVELS = {"ORT_ENABLE_BASIC": -1, "ORT_ENABLE_EXTENDED": 1, "ORT_DISABLE_ALL": 2}
"""What Triton's onnxruntime backend calls them; 0, the default, is all optimizations."""
_ACCELERATORS = {
    "TensorrtExecutionProvider": ("gpu", "tensorrt"),
    "OpenVINOExecutionProvider": ("cpu", "openvino"),
}
_ON_GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a configuration is made of.

    Attributes:
        package: what is promoted.
        digest: of its files.
        version: the number of its folder.
        served: of the package.
        ends: inputs and outputs as the server's runtime sees them.
        batching: of requests.
        warmup: of instances.
    """

    package: Package
    digest: str
    version: int
    served: Served
    ends: Signature
    batching: Batching
    warmup: WarmUp


def config_of(facts: Facts) -> Any:
    """The `ModelConfig`.

    Raises:
        ModelError: if Triton cannot serve an input or output.
    """
    served, largest = facts.served, facts.batching.max_size
    config = schema().ModelConfig(
        name=facts.package.name,
        backend=served.backend,
        max_batch_size=largest,
        input=[_port(spec, facts) for spec in facts.ends.inputs],
        output=[_port(spec, facts) for spec in facts.ends.outputs],
        version_policy={"specific": {"versions": [facts.version]}},
        instance_group=[_instances(facts)],
        parameters={k: {"string_value": v} for k, v in _parameters(facts)},
        model_warmup=list(_warmups(facts)),
    )
    if largest > 1:
        config.dynamic_batching.preferred_batch_size.extend(facts.batching.preferred)
        config.dynamic_batching.max_queue_delay_microseconds = facts.batching.delay_us
        config.dynamic_batching.SetInParent()
    if served.by_capability:
        config.cc_model_filenames.update(served.by_capability)
    elif served.backend == TENSORRT:
        config.default_model_filename = PLAN_NAME
    _optimize(config, served.session)
    return config


def _port(spec: TensorSpec, facts: Facts) -> dict[str, Any]:
    """An input or output; without its batch axis where Triton batches.

    Triton asks for at least one dimension. Where each sample is a scalar it is told to reshape; a
    scalar of the whole model is `[1]` to it, which ONNX Runtime's backend takes and TensorRT's not.
    """
    backend, batched = facts.served.backend, bool(facts.batching.max_size)
    sizes = spec.shape[1:] if batched else spec.shape
    port = {"name": spec.name, "data_type": triton_type(spec, backend)}
    if 0 in sizes:
        raise ModelError(
            spec.name,
            "holds no element, which Triton cannot serve",
            got=str(list(spec.shape)),
            fix="Export the model without it.",
        )
    if sizes:
        return {**port, "dims": [size if isinstance(size, int) else -1 for size in sizes]}
    if batched:
        return {**port, "dims": [1], "reshape": {"shape": []}}
    if backend != ONNXRUNTIME:
        raise ModelError(
            spec.name,
            "is a scalar of the whole batch, which Triton's tensorrt backend cannot serve",
            fix="Export the model with it as a tensor of one axis.",
        )
    return {**port, "dims": [1]}


def _instances(facts: Facts) -> dict[str, Any]:
    kinds = schema().ModelInstanceGroup
    if facts.served.backend == TENSORRT:
        return {"kind": kinds.KIND_GPU, "count": 1, "profile": ["0"]}
    if any(name in _ON_GPU for name in facts.served.session.get("providers", ())):
        return {"kind": kinds.KIND_GPU, "count": 1}
    threads = int(facts.served.session.get("threads", 0))
    return {"kind": kinds.KIND_CPU, "count": cpu_instances(facts.package, threads)}


def _parameters(facts: Facts) -> Iterator[tuple[str, str]]:
    package, served = facts.package, facts.served
    yield DIGEST_KEY, facts.digest
    yield "calib.experiment", package.result.experiment
    yield "calib.run_id", package.result.run_id
    yield "calib.candidate", package.candidate.name
    yield "calib.model_sha256", package.candidate.model_sha256
    yield "calib.verdict", verdict_text(package)
    yield "calib.measured_with", measured_with(package)
    if served.backend == ONNXRUNTIME and served.session:
        yield "intra_op_thread_count", str(served.session.get("threads", 0))
        yield "inter_op_thread_count", "1"
        yield "execution_mode", "0"
    entries = served.session.get("entries", {})
    for key, value in entries.items():
        yield (f"calib.{key}" if key in served.lost_entries else key), str(value)


def measured_with(package: Package) -> str:
    """The runtime and its version: a server with another one may round otherwise."""
    machine = package.result.environment
    return f"{machine.backend} {machine.backend_details.get('version', '')}".strip()


def verdict_text(package: Package) -> str:
    """PASS, and which limits somebody answers for."""
    waived = f", waived: {', '.join(package.waived)}" if package.waived else ""
    return f"{package.verdict.verdict.value}{waived}"


def _optimize(config: Any, session: Mapping[str, Any]) -> None:
    level = _LEVELS.get(str(session.get("optimization", "")))
    if level is not None:
        config.optimization.graph.level = level
    for provider in session.get("providers", ()):
        if provider in _ACCELERATORS:
            kind, name = _ACCELERATORS[provider]
            accelerators = config.optimization.execution_accelerators
            getattr(accelerators, f"{kind}_execution_accelerator").add(name=name)


def _warmups(facts: Facts) -> Iterator[dict[str, Any]]:
    warmup = facts.warmup
    for size in warmup.sizes if warmup.shapes else ():
        yield {
            "name": f"batch-{size}" if facts.batching.max_size else "one-batch",
            "batch_size": size,
            "inputs": {
                spec.name: {
                    "data_type": triton_type(spec, facts.served.backend),
                    "dims": list(warmup.shapes[spec.name]),
                    **_content(warmup, spec.name, facts.version),
                }
                for spec in facts.ends.inputs
            },
        }


def _content(warmup: WarmUp, name: str, version: int) -> dict[str, Any]:
    if warmup.files is None:
        return {"zero_data": True}
    return {"input_data_file": f"{version}/{warmup.names[name]}"}
