"""Building TensorRT engines of every candidate, and what each node of them ran in."""

import json
from pathlib import Path

import numpy as np

from calib.backends.precision import (
    int8_macs_pct,
    node_precisions,
)
from calib.backends.tensorrt import NativeCalibration, TensorRtBuilder
from calib.backends.tensorrt_build import Profile
from calib.backends.tensorrt_calibrator import ALGORITHMS
from calib.backends.tensorrt_specs import ProfileSpec
from calib.calibrators.trt_cache import cache_from_amax
from calib.engine_record import EngineIdentity, EngineRecord
from calib.errors import ConfigError
from calib.graph.macs import macs_by_node, weighted_nodes
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.tensorrt_rules import refuse_for_tensorrt
from calib.progress import Advance
from calib.results import Precision
from calib.stages.calibrate import Calibration, Candidate
from calib.stages.engine_runs import BuiltEngine, engine_layers, rebuild_record
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from calib.store import sha256_from_file, write_atomically

OTHER_TARGET = "this machine's GPU is another target"
_STEPS = 1000
"""Nobody knows beforehand how many steps a build has; the bar only shows that it lives."""


def build_engines(
    bench: Workbench, inputs: Inputs, calibration: Calibration, candidate: Candidate
) -> tuple[BuiltEngine, ...]:
    """One engine for each target; none where the backend is ONNX Runtime.

    Raises:
        BackendError: if a build fails.
        ConfigError: if the config's profiles do not fit the model.
    """
    if bench.builder is None:
        return ()
    builder = bench.builder
    return tuple(
        _build(bench, builder, inputs, calibration, candidate, target) for target in builder.targets
    )


def engine_profile(bench: Workbench, inputs: Inputs) -> Profile:
    """(minimum, optimum, maximum) shape of every input, batch axis included.

    From the config where it gives them; else from the data: the smallest, median and largest size
    of each axis over both splits, and batches from 1 to the largest that is run.
    """
    experiment = bench.experiment
    given = getattr(experiment.backend, "profiles", None) or {}
    size = inputs.validation.batch_size
    batch = (1, size, max(size, *experiment.throughput.batch_sizes, 1))
    if inputs.axes.size:
        batch = (size, size, size)
    profile: Profile = {}
    for spec in inputs.model.record.inputs:
        axes = []
        both = (split.scan.shapes[spec.name] for split in (inputs.calibration, inputs.validation))
        for one, other in zip(*both, strict=True):
            axes.append((min(one[0], other[0]), other[1], max(one[2], other[2])))
        at = inputs.axes.inputs[spec.name]
        if at is None:
            axes = [(size, size, size) for size in spec.shape if isinstance(size, int)]
        else:
            axes.insert(at, batch)
        smallest, best, largest = (tuple(axis[i] for axis in axes) for i in range(3))
        profile[spec.name] = (smallest, best, largest)
        if spec.name in given:
            profile[spec.name] = _checked(spec.name, given[spec.name], len(axes))
    unknown = sorted(set(given) - set(profile))
    if unknown:
        raise ConfigError(
            f"backend.profiles.{unknown[0]}", "is no input of the model", expected=list(profile)
        )
    return profile


def _checked(
    name: str, spec: ProfileSpec, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    shapes = (spec.min, spec.opt, spec.max)
    ordered = all(a <= b <= c for a, b, c in zip(*shapes, strict=False))
    if {len(shape) for shape in shapes} != {rank} or not ordered:
        raise ConfigError(
            f"backend.profiles.{name}",
            "needs shapes of the input's rank with min ≤ opt ≤ max on each axis",
            got=f"{spec.min}, {spec.opt}, {spec.max}",
            expected=f"{rank} axes",
        )
    return shapes


def _build(
    bench: Workbench,
    builder: TensorRtBuilder,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    target: str,
) -> BuiltEngine:
    profile = engine_profile(bench, inputs)
    natively = candidate.precision is Precision.INT8 and builder.int8 != "explicit"
    from_fp32 = candidate.precision is Precision.FP32 or natively
    fp32 = calibration.graph if natively else calibration.plain
    graph = fp32 if from_fp32 else read_graph(candidate.path)
    warnings = refuse_for_tensorrt(graph, candidate.name)
    key = {
        "candidate": candidate.digest,
        "calibration": inputs.calibration.scan.sha256 if natively else None,
        "spec": builder.spec.model_dump(mode="json", exclude={"reference"}),
        "version": builder.availability.version,
        "target": target,
        "profile": profile,
    }

    def make(folder: Path, advance: Advance) -> None:
        model, native = candidate.path, None
        if from_fp32:
            # The same graph, normalised: some exporters' axis names TensorRT takes amiss.
            model = folder / "model.onnx"
            save_model(fp32, model)
        if natively:
            native = _native(builder, inputs, calibration, candidate, folder)
        precisions = _precisions(candidate)
        facts = builder.build(model, target, precisions, profile, folder, advance, native)
        facts["warnings"] = [*warnings, *facts["warnings"]]
        identity = EngineIdentity(
            backend=builder.spec.kind,
            version=facts["version"],
            target=target,
            model_sha256=candidate.digest,
            profile=profile,
            flags={"int8": builder.int8, "precisions": ", ".join(precisions)},
        )
        write_atomically(folder / "engine.json", identity.model_dump_json(indent=1))
        for part in (*folder.glob("model.onnx*"), *folder.glob("batches/*")):
            part.unlink()
        (folder / "request.json").unlink()  # it holds this machine's paths
        write_atomically(folder / "facts.json", json.dumps(facts))

    title = f"engine {candidate.name}, {target}"
    folders = [
        bench.artifact("engine", title, {**key, "rebuild": index}, make, _STEPS).path
        for index in range(builder.spec.rebuilds)
    ]
    record = _record(builder, calibration, candidate, target, profile, folders[0])
    if len(folders) > 1:
        differ = rebuild_record(bench, inputs, folders, runs=record.ran_here)
        record = record.model_copy(update={"rebuilds": differ})
    return BuiltEngine(record, folders[0] / "engine.plan")


def _native(
    builder: TensorRtBuilder,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    folder: Path,
) -> NativeCalibration:
    """Our scales as a cache, or our samples for TensorRT's own calibrator."""
    name = str(candidate.calibrator)
    if builder.int8 == "cache":
        version = builder.availability.version
        amax = calibration.others.get(name, {}) | calibration.amax[name]
        cache = cache_from_amax(amax, version, "EntropyCalibration2")
        write_atomically(folder / "calibration.cache", cache.text())
        return NativeCalibration(cache=folder / "calibration.cache")
    if name not in ALGORITHMS:
        raise ConfigError(
            "calibration.calibrators",
            "TensorRT has no calibrator of this kind",
            got=name,
            expected=", ".join(ALGORITHMS),
            fix="Take backend.int8: cache, which gives TensorRT our scales.",
        )
    batches = folder / "batches"
    batches.mkdir()
    for index, batch in enumerate(inputs.calibration.batches()):
        np.savez(batches / f"{index:06d}.npz", **dict(batch.inputs))  # type: ignore[arg-type]
    split = inputs.calibration
    return NativeCalibration(
        batches=batches, algorithm=name, batch_size=split.batch_size, samples=split.scan.samples
    )


def _precisions(candidate: Candidate) -> tuple[str, ...]:
    wanted = {candidate.precision, candidate.rest} - {None, Precision.FP32}
    return tuple(sorted(str(precision) for precision in wanted))


def _record(
    builder: TensorRtBuilder,
    calibration: Calibration,
    candidate: Candidate,
    target: str,
    profile: Profile,
    folder: Path,
) -> EngineRecord:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    layers = engine_layers(folder)
    optimum = {name: shapes[1] for name, shapes in profile.items()}
    weighted = weighted_nodes(calibration.graph)
    is_int8 = candidate.precision is Precision.INT8
    asked = calibration.selection.quantized_nodes & weighted.keys() if is_int8 else frozenset()
    macs = macs_by_node(calibration.graph, optimum)
    nodes = node_precisions(layers, weighted, frozenset(asked), macs)
    return EngineRecord(
        backend=builder.spec.kind,
        version=facts["version"],
        target=target,
        seconds=facts["seconds"],
        plan_bytes=(folder / "engine.plan").stat().st_size,
        plan_sha256=sha256_from_file(folder / "engine.plan"),
        weights_bytes=facts["weights_bytes"],
        activation_bytes=facts["activation_bytes"],
        peak_memory_bytes=facts["peak_memory_bytes"],
        profile=profile,
        layers=layers,
        nodes=nodes,
        int8_macs_pct=int8_macs_pct(nodes),
        ran_here=builder.runs(target),
        why_not_run="" if builder.runs(target) else builder.availability.problem or OTHER_TARGET,
        warnings=tuple(facts["warnings"]),
    )
