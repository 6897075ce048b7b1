"""One pass over the calibration data, and the candidates that come out of it."""

import json
from dataclasses import dataclass
from pathlib import Path

from calib.calibrators import TensorStatistics, amax_from_statistics, clipped_pct
from calib.calibrators.statistics_file import load_statistics, save_statistics
from calib.graph.fold import fold_batchnorm
from calib.graph.fp16 import to_fp16
from calib.graph.load import Graph
from calib.graph.qdq import insert_qdq, scale_from_amax, weight_records
from calib.graph.save import save_model
from calib.graph.select import Selection, select
from calib.graph.taps import tapped, taps_from_tensors
from calib.observe import observe
from calib.progress import Advance
from calib.results import ActivationRecord, CalibrationRecord, Precision
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from calib.store import write_atomically


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the pass found, and the graph it holds for.

    Attributes:
        graph: the FP32 graph that candidates are made from (BatchNormalization folded in).
        selection: what becomes INT8.
        amax: threshold by tensor, by calibrator name.
        record: for the report.
        statistics_file: the saved histograms.
        digest: of everything the statistics depend on.
    """

    graph: Graph
    selection: Selection
    amax: dict[str, dict[str, float]]
    record: CalibrationRecord
    statistics_file: Path
    digest: str


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
    """
    experiment = bench.experiment
    graph = (
        fold_batchnorm(inputs.model.graph)
        if experiment.engines.fold_batchnorm
        else (inputs.model.graph)
    )
    selection = select(graph, experiment.quantization)
    key = {
        "model": inputs.model.record.sha256,
        "data": inputs.calibration.scan.sha256,
        "batch_size": inputs.calibration.batch_size,
        "tensors": selection.activation_tensors,
        "ignore_padding": experiment.calibration.ignore_padding,
        "fold_batchnorm": experiment.engines.fold_batchnorm,
    }

    def make(folder: Path, advance: Advance) -> None:
        _observe(bench, inputs, graph, selection, key, folder, advance)

    total = inputs.calibration.scan.samples
    found = bench.artifact("observe", "calibrate: one pass", key, make, total)
    statistics, _ = load_statistics(found.path / "statistics.npz")
    amax = {
        calibrator.name: {
            name: amax_from_statistics(calibrator, s) for name, s in statistics.items()
        }
        for calibrator in experiment.calibration.calibrators
    }
    record = _record(graph, selection, statistics, amax, found.path / "pass.json")
    return Calibration(graph, selection, amax, record, found.path / "statistics.npz", found.digest)


def _observe(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    selection: Selection,
    key: dict[str, object],
    folder: Path,
    advance: Advance,
) -> None:
    taps = taps_from_tensors(graph, selection.activation_tensors)
    observed = folder / "observed.onnx"
    save_model(tapped(graph, [tap.source for tap in taps if not tap.is_input]), observed)
    with bench.backend.engine(observed, spinning=False) as engine:
        seen = observe(
            engine,
            inputs.calibration.batches(),
            taps,
            ignore_padding=bench.experiment.calibration.ignore_padding,
            on_batch=advance,
            threads=bench.backend.threads,
        )
    observed.unlink()
    save_statistics(folder / "statistics.npz", seen.statistics, key)
    facts = {
        "samples": seen.samples,
        "batches": seen.batches,
        "values": seen.values,
        "seconds": seen.seconds,
        "inference_seconds": seen.inference_seconds,
    }
    write_atomically(folder / "pass.json", json.dumps(facts))


def _record(
    graph: Graph,
    selection: Selection,
    statistics: dict[str, TensorStatistics],
    amax: dict[str, dict[str, float]],
    facts: Path,
) -> CalibrationRecord:
    consumers: dict[str, list[str]] = {}
    for site in selection.activations:
        consumers.setdefault(site.tensor, []).append(site.node)
    activations = tuple(
        _activation_record(statistics[name], tuple(nodes), amax)
        for name, nodes in consumers.items()
    )
    dead = [a.tensor for a in activations if a.zeros == a.count]
    return CalibrationRecord(
        **json.loads(facts.read_text(encoding="utf-8")),
        calibrators=tuple(amax),
        activations=activations,
        weights=weight_records(graph, selection),
        left_alone=selection.left_alone,
        warnings=tuple(f"{name} was zero in every calibration sample" for name in dead),
    )


def _activation_record(
    statistics: TensorStatistics, consumers: tuple[str, ...], amax: dict[str, dict[str, float]]
) -> ActivationRecord:
    thresholds = {name: tensors[statistics.name] for name, tensors in amax.items()}
    return ActivationRecord(
        tensor=statistics.name,
        consumers=consumers,
        count=statistics.count,
        zeros=statistics.zeros,
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        amax=thresholds,
        clipped_pct={name: clipped_pct(statistics, value) for name, value in thresholds.items()},
    )


def build_candidates(
    bench: Workbench, inputs: Inputs, calibration: Calibration
) -> tuple[Candidate, ...]:
    """Write the ONNX file of every candidate; FP32 is the file as it was given."""
    model = inputs.model
    reference = Candidate(
        Precision.FP32.value, Precision.FP32, None, None, model.path, model.record.sha256
    )
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
        graph, warnings = to_fp16(calibration.graph)
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
        graph = insert_qdq(calibration.graph, calibration.selection, amax)
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
