"""One pass over the calibration data, and the candidates that come out of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calib.calibrators import Convergence, TensorStatistics, clipped_pct
from calib.graph.fp16 import to_fp16
from calib.graph.load import Graph
from calib.graph.qdq import Corrections, insert_qdq, scale_from_amax, weight_records
from calib.graph.save import save_model
from calib.graph.select import Selection
from calib.graph.taps import taps_from_tensors
from calib.progress import Advance
from calib.results import ActivationRecord, CalibrationRecord, Precision
from calib.stages.improve import Remedied
from calib.stages.inputs import Inputs
from calib.stages.observation import Observed, Shard, observed
from calib.stages.prepare import prepared
from calib.stages.thresholds import (
    Thresholds,
    find_growth,
    find_thresholds,
    odd_thresholds,
    other_thresholds,
)
from calib.stages.workbench import Workbench
from calib.store import write_atomically


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
        record: for the report.
        statistics_file: the saved histograms.
        digest: of everything the statistics depend on.
        remedied: what remedies did, if they were asked for.
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine to build: what it is, and the ONNX file it is built from.

    Attributes:
        plan: its TensorRT engine, where one was built that can run here.
    """

    name: str
    precision: Precision
    calibrator: str | None
    rest: Precision | None
    path: Path
    digest: str
    warnings: tuple[str, ...] = ()
    plan: Path | None = None


def calibrate(bench: Workbench, inputs: Inputs) -> Calibration:
    """Observe the FP32 model over the calibration split and find every calibrator's thresholds.

    Raises:
        ModelError: if nothing can be quantized.
        DataError: if an activation is not finite.
        StoreError: if `calibration.statistics` cannot be used.
    """
    ready = prepared(bench, inputs)
    graph, selection = ready.graph, ready.selection
    seen = observed(bench, inputs, ready, Shard())
    whole = {name: parts.whole() for name, parts in seen.content.parts.items()}
    statistics = {name: whole[name] for name in selection.activation_tensors}
    rest = {name: found for name, found in whole.items() if name not in statistics}
    specs = bench.experiment.calibration.calibrators
    thresholds = {
        spec.name: find_thresholds(bench, inputs, ready, seen, spec, statistics) for spec in specs
    }
    others = {spec.name: other_thresholds(spec, rest) for spec in specs} if rest else {}
    growth = find_growth(bench, seen, thresholds)
    size = inputs.calibration.batch_size
    record = _record(bench, graph, selection, seen, whole, thresholds, growth, size)
    record = record.model_copy(update={"others": others})
    amax = {name: found.amax for name, found in thresholds.items()}
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
    )


def _record(
    bench: Workbench,
    graph: Graph,
    selection: Selection,
    seen: Observed,
    statistics: dict[str, TensorStatistics],
    thresholds: dict[str, Thresholds],
    growth: dict[tuple[str, str], Convergence],
    batch_size: int,
) -> CalibrationRecord:
    consumers: dict[str, list[str]] = {}
    for site in selection.activations:
        consumers.setdefault(site.tensor, []).append(site.node)
    tolerance = bench.experiment.calibration.tolerance_pct
    activations = tuple(
        ActivationRecord(
            tensor=name,
            consumers=tuple(nodes),
            count=statistics[name].count,
            zeros=statistics[name].zeros,
            minimum=statistics[name].minimum if statistics[name].count else None,
            maximum=statistics[name].maximum if statistics[name].count else None,
            amax={c: found.amax[name] for c, found in thresholds.items()},
            clipped_pct={
                c: clipped_pct(statistics[name], found.amax[name])
                for c, found in thresholds.items()
            },
            growth={c: growth[c, name].growth for c in thresholds if (c, name) in growth},
            standard_error_pct={
                c: growth[c, name].standard_error_pct for c in thresholds if (c, name) in growth
            },
            enough={
                c: growth[c, name].enough(tolerance) for c in thresholds if (c, name) in growth
            },
            chosen={c: f.chosen[name].name for c, f in thresholds.items() if name in f.chosen},
        )
        for name, nodes in consumers.items()
    )
    return CalibrationRecord(
        samples=seen.content.samples,
        batches=seen.content.batches,
        passes=seen.facts.passes,
        seconds=seen.facts.seconds,
        inference_seconds=seen.facts.inference_seconds,
        values=_values(graph, statistics),
        part_samples=_part_samples(seen, batch_size),
        tolerance_pct=tolerance,
        calibrators=tuple(thresholds),
        activations=activations,
        weights=weight_records(graph, selection),
        left_alone=selection.left_alone,
        warnings=(
            *odd_thresholds(bench, {n: statistics[n] for n in consumers}, thresholds),
            *_given_up(seen),
        ),
    )


def _given_up(seen: Observed) -> Iterator[str]:
    for name in seen.content.made_from["tensors"]:
        if name not in seen.content.parts:
            yield f"{name} was not always finite: it has no threshold, and needs none for Q/DQ"


def _values(graph: Graph, statistics: dict[str, TensorStatistics]) -> int:
    """Number of values counted: tensors that share a tap share them."""
    taps = taps_from_tensors(graph, statistics)
    return sum(statistics[tap.tensors[0]].count for tap in taps)


def _part_samples(seen: Observed, batch_size: int) -> tuple[int, ...]:
    """Samples seen up to the end of each part."""
    parts = max((p for p in seen.content.parts.values()), key=lambda p: len(p.parts), default=None)
    if parts is None:
        return ()
    ends = ((k + 1) * parts.size * batch_size for k in range(len(parts.parts)))
    return tuple(min(end, seen.content.samples) for end in ends)


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
            candidates.append(_int8(bench, calibration, name, calibrator, rest))
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


def _int8(
    bench: Workbench, calibration: Calibration, name: str, calibrator: str, rest: Precision
) -> Candidate:
    amax = calibration.amax[calibrator]
    key = {
        "calibration": calibration.digest,
        "amax": amax,
        "rest": rest.value,
        "selection": bench.experiment.quantization.model_dump(mode="json"),
    }

    def make(folder: Path, _: Advance) -> None:
        graph = insert_qdq(calibration.graph, calibration.selection, amax, calibration.corrections)
        warnings: tuple[str, ...] = ()
        if rest is Precision.FP16:
            graph, warnings = to_fp16(graph)
        save_model(graph, folder / "model.onnx")
        scales = {tensor: float(scale_from_amax(value)) for tensor, value in amax.items()}
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
    )


def _warnings(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / "warnings.json").read_text(encoding="utf-8")))
