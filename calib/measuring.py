"""Every candidate measured: its engines, outputs, errors, verdicts and speed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from calib.analysis.profiles import Profiles
from calib.analysis.tails import BesideFp16
from calib.report import SampleTables
from calib.results import (
    CandidateRecord,
    Precision,
    SampleVerdict,
    SpeedRecord,
    TensorError,
)
from calib.stages.analyse import OnRow, Outputs, analyse_candidate, analyse_heads
from calib.stages.calibrate import (
    Calibration,
    Candidate,
)
from calib.stages.engine_runs import BuiltEngine, with_layer_times
from calib.stages.engines import build_engines
from calib.stages.inputs import Inputs
from calib.stages.keep import keep_engines
from calib.stages.measure import (
    compare,
    compare_layers,
    run_outputs,
)
from calib.stages.ran import what_ran
from calib.stages.slices import Slicer
from calib.stages.speed import measure_memory, measure_speed
from calib.stages.stability import resampled
from calib.stages.tail import explain_tails
from calib.stages.workbench import Workbench
from calib.store import place, sha256_from_file

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What is written while the engines are compared."""

    folder: Path
    samples: SampleTables
    beside: BesideFp16
    slicer: Slicer

    def on_row(self, candidate: Candidate) -> OnRow:
        """What takes in a candidate's verdicts: those of INT8 get FP16's answer beside them."""

        def add(name: str, verdict: SampleVerdict) -> None:
            if candidate.precision is Precision.FP16:
                self.beside.keep(verdict)
            elif candidate.precision is Precision.INT8:
                verdict = self.beside.beside(verdict)
            self.samples.add(name, verdict)
            self.slicer.add(name, verdict)

        return add


def measure(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidates: tuple[Candidate, ...],
    files: RunFiles,
    known: Profiles | None,
) -> tuple[tuple[CandidateRecord, ...], SpeedRecord | None]:
    """Run every engine over the validation data, and say all there is to say of each.

    Args:
        bench: the backend and the store.
        inputs: the model and the data.
        calibration: thresholds by calibrator.
        candidates: FP32 first.
        files: what is written meanwhile.
        known: the calibration samples that the audit looked at, if it did.
    """
    built = {c.name: build_engines(bench, inputs, calibration, c) for c in candidates}
    for name, engines in built.items():
        keep_engines(name, engines, files.folder)
    candidates = tuple(replace(c, plan=_plan(built[c.name])) for c in candidates)
    outputs = {c.name: run_outputs(bench, inputs, c) for c in candidates}
    reference = outputs[Precision.FP32]
    judged = [
        _judged(bench, inputs, calibration, c, Outputs(reference, outputs[c.name]), files)
        for c in candidates
    ]
    facts = explain_tails(bench, inputs, calibration, judged, known)
    speed = measure_speed(bench, inputs, candidates)
    records = tuple(
        fact.model_copy(
            update={
                "latency": speed.latency.get(fact.name, ()),
                "ran": what_ran(bench, inputs, candidate),
                "engines": tuple(with_layer_times(bench, inputs, e) for e in built[fact.name]),
                "load_seconds": speed.load_seconds.get(fact.name),
                "peak_memory_bytes": measure_memory(bench, inputs, candidate),
            }
        )
        for fact, candidate in zip(facts, candidates, strict=True)
    )
    return records, speed.record


def not_compared(records: tuple[CandidateRecord, ...]) -> Iterator[str]:
    """The tensors of which only a part was compared, in a sentence."""
    errors = [error for c in records for error in (*c.layers, *c.outputs)]
    unlike = {error.tensor: error.unlike_batches for error in errors if error.unlike_batches}
    if unlike:
        shown = ", ".join(f"{name} (in {count:,} batches)" for name, count in unlike.items())
        yield f"not as many values as in FP32, so no error is told of them there: {shown}"
    left_out = {e.tensor: e.left_out for e in errors if e.left_out and not e.unlike_batches}
    if left_out:
        shown = ", ".join(f"{name} ({left_out[name]:,})" for name in list(left_out)[:_SHOWN])
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        yield (
            f"{len(left_out)} tensors hold values that are not finite, or a mask, in FP32; "
            f"their errors are those of the other values: {shown}{more}"
        )


def _plan(engines: tuple[BuiltEngine, ...]) -> Path | None:
    return next((engine.plan for engine in engines if engine.record.ran_here), None)


def _judged(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    outputs: Outputs,
    files: RunFiles,
) -> CandidateRecord:
    is_reference = candidate.precision is Precision.FP32
    errors: tuple[TensorError, ...] = ()
    if not is_reference:
        compared = compare(bench, inputs, outputs.reference, outputs.candidate, candidate)
        errors = compared.errors
        place(compared.accuracy_file, files.folder / "polygraphy" / f"{candidate.name}.json")
    layers = compare_layers(bench, inputs, calibration, candidate)
    found = analyse_candidate(bench, inputs, candidate, outputs, files.on_row(candidate))
    heads = analyse_heads(bench, inputs, candidate, outputs)
    broken = (f"{found.not_finite} samples have NaN or infinity in their output",)
    record = CandidateRecord(
        name=candidate.name,
        precision=candidate.precision,
        calibrator=candidate.calibrator,
        rest=candidate.rest,
        model_path=_model_name(candidate),
        emulated=_is_emulated(bench, candidate),
        model_sha256=sha256_from_file(candidate.path),
        size_bytes=_size_bytes(candidate, inputs),
        peak_memory_bytes=None,
        outputs=errors,
        layers=layers,
        score=found.score,
        flips=found.flips,
        tail=() if is_reference else tuple(map(files.beside.beside, found.tail)),
        heads=heads,
        resampled=resampled(bench, inputs, calibration, candidate, outputs),
        moved=None if is_reference else found.moved,
        warnings=candidate.warnings + (broken if found.not_finite else ()),
    )
    return files.slicer.scored(record, found.part)


def _is_emulated(bench: Workbench, candidate: Candidate) -> bool:
    half = Precision.FP16 in (candidate.precision, candidate.rest)
    return half and bench.builder is None and bench.backend.emulates_fp16


def _size_bytes(candidate: Candidate, inputs: Inputs) -> int:
    if candidate.precision is Precision.FP32:
        return inputs.model.record.size_bytes
    return sum(part.stat().st_size for part in candidate.path.parent.glob("model.onnx*"))


def _model_name(candidate: Candidate) -> str:
    if candidate.precision is Precision.FP32:
        return str(candidate.path)
    return f"models/{candidate.name}/model.onnx"
