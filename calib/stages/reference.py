"""What the candidates are compared with, and what only a run of it tells."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from calib.analysis.layers import TensorErrorAccumulator
from calib.errors import BackendError, ModelError
from calib.graph.load import Model
from calib.graph.opset import opset_in
from calib.graph.save import save_model
from calib.graph.seen import unknown_tensors, with_seen
from calib.graph.taps import tapped
from calib.progress import Advance
from calib.results import ModelPrecision
from calib.stages.workbench import Workbench
from data_loaders.types import Array, Batch

_EQUAL_DB = 60.0
"""Float32 in another order of sums is beyond 100 dB; FP16 is as it was and gives about 70."""


def with_reference(bench: Workbench, model: Model) -> Model:
    """The model with the file that the reference engine runs: as given, or an FP32 copy of it.

    Raises:
        ModelError: if the runtime runs neither.
    """

    def make(folder: Path, _: Advance) -> None:
        why = _why_not(bench, model.path)
        if why is not None:
            copy = folder / "model.onnx"
            save_model(model.graph, copy)
            again = _why_not(bench, copy)
            if again is not None:
                raise ModelError(
                    str(model.path),
                    "cannot be run",
                    got=again,
                    fix="Replace what the runtime does not know by standard operators, or install "
                    "a build of it that knows them.",
                )
        (folder / "reference.json").write_text(json.dumps(why), encoding="utf-8")

    found = bench.artifact("reference", "reference", {"model": model.record.sha256}, make)
    why = json.loads((found.path / "reference.json").read_text(encoding="utf-8"))
    reference = None if why is None else found.path / "model.onnx"
    told = _told(model.record.precision, why, builds=bench.builder is not None)
    if told:
        bench.progress.note(told)
    warnings = (*model.record.warnings, *((told,) if told else ()))
    record = model.record.model_copy(update={"warnings": warnings})
    return replace(model, reference=reference, record=record)


def _why_not(bench: Workbench, path: Path) -> str | None:
    try:
        with bench.backend.engine(path):
            return None
    except BackendError as error:
        return error.problem


def _told(precision: ModelPrecision, why: str | None, *, builds: bool) -> str:
    """What the report's reader has to know of the reference; '' if it is as always."""
    if builds and precision is not ModelPrecision.FP32:
        return f"the model is {precision}: every engine, the reference too, comes from an FP32 copy"
    kind = "mixed precision" if precision is ModelPrecision.MIXED else precision.upper()
    if why is not None:
        return (
            f"the file as it was given ({kind}) cannot be run here ({why}): the reference, which "
            "tables call fp32, is its FP32 copy"
        )
    if precision is ModelPrecision.FP32:
        return ""
    return (
        f"the reference, which tables call fp32, is {kind}: the file as it was given; calibration "
        "and candidates start from its FP32 copy"
    )


def with_shapes(bench: Workbench, model: Model, batches: list[Batch]) -> Model:
    """The model with types and shapes from runs on these batches, where inference found none."""
    unknown = unknown_tensors(model.graph)
    if unknown:
        with bench.engine(tapped(model.graph, unknown)) as engine:
            runs = [(batch.inputs, dict(engine.infer(batch.inputs))) for batch in batches]
        model = replace(model, graph=with_seen(model.graph, runs))
    return model


def refuse_unequal(bench: Workbench, model: Model, batch: Batch) -> None:
    """Hold the model at its new opset against the file, on a batch: converters err in silence.

    Raises:
        ModelError: naming the first output that is another one.
    """
    if model.reference is not None or opset_in(model.graph) == model.record.opset:
        return
    with bench.backend.engine(model.path) as given, bench.engine(model.graph) as copy:
        wanted = {name: np.array(array) for name, array in given.infer(batch.inputs).items()}
        found = copy.infer(batch.inputs)
    for name, array in wanted.items():
        if array.dtype.kind != "f":
            continue
        same = array.shape == found[name].shape
        error = TensorErrorAccumulator(name)
        if same:
            error.add(_finite(array), _finite(found[name]))
        noise = error.result().sqnr_db if same else -math.inf
        if noise is not None and noise < _EQUAL_DB:
            raise ModelError(
                str(model.path),
                f"does not compute the same at opset {opset_in(model.graph)}: ONNX's converter has "
                "no true equal for one of its operators",
                got=f"{noise:.0f} dB at output {name}",
                expected=f"at least {_EQUAL_DB:g} dB",
                fix="Export the model again with opset 13 or newer.",
            )


def _finite(array: Array) -> Array:
    return np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
