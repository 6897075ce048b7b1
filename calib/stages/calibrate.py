"""One pass over the calibration data, and the candidates that come out of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from calib.backends.processor import prefers_unsigned
from calib.graph.fp16 import to_fp16
from calib.graph.load import Graph
from calib.graph.native import (
    BETWEEN,
    Range,
    insert_native_qdq,
    native_tensors,
    unsigned_grid,
)
from calib.graph.qdq import Corrections, insert_qdq, scale_from_amax
from calib.graph.save import save_model
from calib.graph.select import Selection
from calib.graph.unsigned import with_unsigned_activations
from calib.progress import Advance
from calib.results import CalibrationRecord, PlacementRecord, Precision
from calib.stages.calibration_record import calibration_record, calibration_warnings
from calib.stages.improve import Remedied
from calib.stages.inputs import Inputs
from calib.stages.native import clipped_ranges, other_thresholds
from calib.stages.observation import observed
from calib.stages.prepare import prepared, without_unfit
from calib.stages.shard import Shard
from calib.stages.thresholds import find_growth, find_thresholds
from calib.stages.unfit import why_unfit
from calib.stages.workbench import Workbench
from calib.store import write_atomically

TWIN_NAME = "onnxruntime.onnx"
TWIN_NOTE = (
    f"INT8 was run as {TWIN_NAME}: model.onnx, which is for TensorRT, with activations in uint8; "
    "the grid is the same, and this processor multiplies it faster"
)

NATIVE_NOTE = (
    "quantization.layout is native: model.onnx is for ONNX Runtime, in uint8 with zero points; "
    "TensorRT wants `layout: tensorrt`"
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the pass found, and the graph it holds for.

    Attributes:
        plain: the FP32 graph with BatchNormalization folded in.
        graph: what INT8 is made from: `plain`, or that rewritten by remedies.
        selection: what of it becomes INT8.
        corrections: of weights and biases, by remedies.
        amax: threshold by tensor, by calibrator name.
        others: the same for tensors that are not quantized.
        ranges: of `quantization.layout: native`: (minimum, maximum) by tensor, by calibrator.
        record: for the report.
        statistics_file: the saved histograms.
        digest: of everything the statistics depend on.
        remedied: what remedies did, if they were asked for.
        between: of the native layout: operators without weights that run in integers.
        placement: how that was chosen, if it was measured.
    """

    plain: Graph
    graph: Graph
    selection: Selection
    corrections: Corrections
    amax: dict[str, dict[str, float]]
    others: dict[str, dict[str, float]]
    record: CalibrationRecord
    statistics_file: Path
    digest: str
    remedied: Remedied | None = None
    ranges: dict[str, dict[str, Range]] = field(default_factory=dict)
    between: frozenset[str] = BETWEEN
    placement: PlacementRecord | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine to build: what it is, and the ONNX file it is built from.

    Attributes:
        plan: its TensorRT engine, where one was built that can run here.
        twin: the same grid in the types that ONNX Runtime is fastest in, where that differs.
    """

    name: str
    precision: Precision
    calibrator: str | None
    rest: Precision | None
    path: Path
    digest: str
    warnings: tuple[str, ...] = ()
    plan: Path | None = None
    twin: Path | None = None

    @property
    def runs(self) -> Path:
        """The ONNX file that ONNX Runtime runs."""
        return self.twin or self.path


def calibrate(bench: Workbench, inputs: Inputs) -> Calibration:
    """Observe the FP32 model over the calibration split and find every calibrator's thresholds.

    Raises:
        ModelError: if nothing can be quantized.
        DataError: if an output of the FP32 model is not finite.
        StoreError: if `calibration.statistics` cannot be used.
    """
    ready = prepared(bench, inputs)
    seen = observed(bench, inputs, ready, Shard())
    whole = {name: parts.whole() for name, parts in seen.content.parts.items()}
    before = frozenset(ready.selection.activation_tensors)
    ready = without_unfit(bench, ready, whole)
    graph, selection = ready.graph, ready.selection
    statistics = {name: whole[name] for name in selection.activation_tensors}
    rest = {n: s for n, s in whole.items() if n not in statistics and why_unfit(s) is None}
    specs = bench.experiment.calibration.calibrators
    thresholds = {
        spec.name: find_thresholds(bench, inputs, ready, seen, spec, statistics) for spec in specs
    }
    others = {spec.name: other_thresholds(spec, rest) for spec in specs} if rest else {}
    growth = find_growth(bench, seen, thresholds)
    size = inputs.calibration.batch_size
    record = calibration_record(bench, ready, seen, whole, thresholds, growth, size)
    warnings = tuple(calibration_warnings(bench, ready, before, seen, whole, thresholds))
    record = record.model_copy(update={"others": others, "warnings": warnings})
    amax = {name: found.amax for name, found in thresholds.items()}
    ranges: dict[str, dict[str, Range]] = {}
    if bench.experiment.quantization.layout == "native":
        wanted = native_tensors(graph, selection)
        for name, found in amax.items():
            both = {**others.get(name, {}), **found}
            ranges[name] = clipped_ranges(wanted, whole, both, ready.amax)
    return Calibration(
        plain=ready.plain,
        graph=graph,
        selection=selection,
        corrections=ready.corrections,
        amax=amax,
        others=others,
        record=record,
        statistics_file=seen.path,
        digest=seen.digest,
        remedied=ready.remedied,
        ranges=ranges,
    )


def build_candidates(
    bench: Workbench, inputs: Inputs, calibration: Calibration
) -> tuple[Candidate, ...]:
    """Write the ONNX file of every candidate; the reference is the file as it was given."""
    model = inputs.model
    path = model.reference or model.path
    digest = model.record.sha256 + ("" if model.reference is None else "-fp32")
    reference = Candidate(Precision.FP32.value, Precision.FP32, None, None, path, digest)
    candidates = [reference]
    if bench.experiment.engines.fp16:
        candidates.append(_fp16(bench, calibration))
    for calibrator in calibration.amax:
        for rest in bench.experiment.engines.rest:
            name = bench.experiment.int8_name(calibrator, rest)
            candidates.append(build_int8(bench, calibration, name, calibrator, rest))
    return tuple(candidates)


def _fp16(bench: Workbench, calibration: Calibration) -> Candidate:
    key = {"calibration": calibration.digest, "precision": "fp16"}

    def make(folder: Path, _: Advance) -> None:
        graph, warnings = to_fp16(calibration.plain)
        save_model(graph, folder / "model.onnx")
        write_atomically(folder / "warnings.json", json.dumps(warnings))

    found = bench.artifact("fp16", "build fp16", key, make)
    return Candidate(
        "fp16",
        Precision.FP16,
        None,
        None,
        found.path / "model.onnx",
        found.digest,
        _warnings(found.path),
    )


def build_int8(
    bench: Workbench, calibration: Calibration, name: str, calibrator: str, rest: Precision | None
) -> Candidate:
    """Write one INT8 candidate.

    Args:
        bench: the backend and the store.
        calibration: thresholds by calibrator.
        name: the candidate's.
        calibrator: whose thresholds.
        rest: precision of what is not quantized; FP32 if None.
    """
    rest = rest or Precision.FP32
    amax = calibration.amax[calibrator]
    native = calibration.ranges.get(calibrator)
    is_twin = native is None and bench.builder is None and prefers_unsigned()
    key = {
        "calibration": calibration.digest,
        # Equal thresholds of two calibrators would make one look as if an earlier run had built it.
        "calibrator": calibrator,
        "amax": amax,
        "rest": rest.value,
        "selection": bench.experiment.quantization.model_dump(mode="json"),
        "twin": is_twin,
        "ranges": native,
        "between": sorted(calibration.between),
        "nodes": sorted(calibration.selection.quantized_nodes),
    }

    def make(folder: Path, _: Advance) -> None:
        graph = _quantized(bench, calibration, calibrator)
        warnings: tuple[str, ...] = ()
        if rest is Precision.FP16:
            graph, warnings = to_fp16(graph)
        save_model(graph, folder / "model.onnx")
        if is_twin:
            save_model(with_unsigned_activations(graph), folder / TWIN_NAME)
        scales = (
            {tensor: float(scale_from_amax(value)) for tensor, value in amax.items()}
            if native is None
            else {tensor: [float(x) for x in unsigned_grid(*r)] for tensor, r in native.items()}
        )
        write_atomically(folder / "scales.json", json.dumps(scales, indent=1, sort_keys=True))
        write_atomically(folder / "warnings.json", json.dumps(warnings))

    found = bench.artifact("int8", f"build {name}", key, make)
    return Candidate(
        name,
        Precision.INT8,
        calibrator,
        rest,
        found.path / "model.onnx",
        found.digest,
        _warnings(found.path),
        twin=found.path / TWIN_NAME if is_twin else None,
    )


def _quantized(bench: Workbench, calibration: Calibration, calibrator: str) -> Graph:
    """The INT8 model in the layout of the config, the rest as it was."""
    model, selection = calibration.graph, calibration.selection
    ranges = calibration.ranges.get(calibrator)
    if ranges is None:
        return insert_qdq(model, selection, calibration.amax[calibrator], calibration.corrections)
    return insert_native_qdq(
        model,
        selection,
        ranges,
        calibration.corrections,
        limit=bench.experiment.quantization.weight_limit,
        between=calibration.between,
    )


def _warnings(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / "warnings.json").read_text(encoding="utf-8")))
