"""TensorRT and TensorRT-RTX from calib's side: what can be built here, and for which targets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calib.backends.availability import Availability, tensorrt_availability
from calib.backends.gpu import Gpu, find_gpu
from calib.backends.onnxruntime import OnnxRuntimeSpec
from calib.backends.tensorrt_build import BuildRequest, Profile, build_engine
from calib.backends.tensorrt_specs import AutoSpec, BuilderSpec, TensorRtRtxSpec, TensorRtSpec
from calib.errors import BackendError

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class NativeCalibration:
    """What TensorRT 8.6 to 10 calibrates with: a cache that is ready, or batches to observe.

    Attributes:
        cache: a calibration cache; or None.
        batches: a folder of npz files, one a batch, array by input name; or None.
        algorithm: see `tensorrt_calibrator.ALGORITHMS`.
        batch_size: samples a batch.
        samples: samples in all; an engine calibrated on fewer is refused.
    """

    cache: Path | None = None
    batches: Path | None = None
    algorithm: str = "entropy"
    batch_size: int = 1
    samples: int = 0

    def added_to(self, request: BuildRequest) -> BuildRequest:
        """The request with this calibration in it."""
        return replace(
            request,
            calibration_cache=str(self.cache.resolve()) if self.cache else None,
            calibration_batches=str(self.batches.resolve()) if self.batches else None,
            calibration_algorithm=self.algorithm,
            calibration_batch_size=self.batch_size,
            calibration_samples=self.samples,
        )


@dataclass(frozen=True, slots=True)
class TensorRtBuilder:
    """A TensorRT that can build here.

    Attributes:
        spec: what the config says.
        availability: what this machine can do with it.
        gpu: the GPU that is there, if one is.
    """

    spec: BuilderSpec
    availability: Availability
    gpu: Gpu

    @property
    def int8(self) -> str:
        """explicit, cache or native: where INT8 ranges come from."""
        return self.spec.int8 if isinstance(self.spec, TensorRtSpec) else "explicit"

    @property
    def targets(self) -> tuple[str, ...]:
        """What engines are built for: compute capabilities, or the GPU's name."""
        if isinstance(self.spec, TensorRtRtxSpec):
            return self.spec.compute_capabilities
        return (self.gpu.name or "this GPU",)

    def runs(self, target: str) -> bool:
        """Whether an engine of that target can be run here."""
        here = isinstance(self.spec, TensorRtSpec) or target == self.gpu.compute_capability
        return self.availability.can_run and here

    def build(
        self,
        model: Path,
        target: str,
        precisions: tuple[str, ...],
        profile: Profile,
        folder: Path,
        on_step: Callable[[int], None],
        native: NativeCalibration | None = None,
    ) -> dict[str, Any]:
        """Build one engine; see `build_engine`.

        Args:
            model: the ONNX file.
            target: one of `targets`.
            precisions: int8, fp16: what a weakly typed network may use.
            profile: shapes of every input.
            folder: where the engine and its log go.
            on_step: called with 1 for each step.
            native: calibrate in TensorRT itself; the network is weakly typed then.

        Raises:
            BackendError: if it fails.
        """
        spec = self.spec
        request = BuildRequest(
            module=spec.kind,
            model=str(model.resolve()),
            profile=profile,
            precisions=precisions,
            strong=native is None,
            workspace_bytes=spec.workspace_mib * _MIB if spec.workspace_mib else None,
            optimization_level=spec.optimization_level,
        )
        if native is not None:
            request = native.added_to(request)
        if isinstance(spec, TensorRtRtxSpec):
            request = replace(request, compute_capability=target)
        else:
            request = replace(
                request,
                timing_cache=str(spec.timing_cache.resolve()) if spec.timing_cache else None,
                version_compatible=spec.version_compatible,
                hardware_compatible=spec.hardware_compatible,
            )
        return build_engine(request, folder, spec.build_timeout_seconds, on_step)


def open_builder(spec: BuilderSpec) -> TensorRtBuilder:
    """Find the TensorRT that a config asks for.

    Raises:
        BackendError: if it cannot build here, with the reason; or a target that it does not know.
    """
    gpu = find_gpu()
    found = tensorrt_availability(spec.kind, gpu)
    if not found.can_build or (isinstance(spec, TensorRtSpec) and gpu.problem):
        raise BackendError(
            f"backend.kind {spec.kind}",
            f"cannot be used here: {found.problem}",
            fix=(f"Install it with: {found.fix}" if found.fix else "See `calib doctor`.")
            + " Or take --backend onnxruntime.",
        )
    if isinstance(spec, TensorRtRtxSpec):
        unknown = [c for c in spec.compute_capabilities if c not in found.targets]
        if unknown:
            raise BackendError(
                "backend.compute_capabilities",
                f"TensorRT-RTX {found.version} does not build for it",
                got=", ".join(unknown),
                expected=", ".join(found.targets),
            )
    return TensorRtBuilder(spec, found, gpu)


def choose(spec: AutoSpec) -> tuple[OnnxRuntimeSpec | BuilderSpec, str]:
    """The backend that `auto` stands for here, and a sentence that says why."""
    del spec
    gpu = find_gpu()
    reasons = []
    for found in (tensorrt_availability(kind, gpu) for kind in ("tensorrt", "tensorrt_rtx")):
        if found.can_run and found.kind == "tensorrt":
            return TensorRtSpec(), f"backend: TensorRT {found.version} on {gpu.name}"
        if found.can_run:
            chosen = TensorRtRtxSpec(compute_capabilities=(gpu.compute_capability,))
            return chosen, f"backend: TensorRT-RTX {found.version} on {gpu.name}"
        reasons.append(f"{found.kind}: {found.problem}")
    return OnnxRuntimeSpec(), f"backend: ONNX Runtime ({'; '.join(reasons)})"
