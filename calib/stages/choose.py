"""The trial behind `auto`.

Each candidate threshold alone, at its consumers' outputs, on batches that set none of them; that
choice and every candidate for all tensors at once are then held against FP32 at the model's output,
and the best is taken: it is never below the best single calibrator there.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from calib.backends.onnxruntime import OnnxRuntime
from calib.calibrators import AutoSpec, TensorParts, TensorStatistics, amax_from_statistics
from calib.calibrators.auto import least_error
from calib.errors import ConfigError
from calib.graph.load import Graph
from calib.graph.native import Range, insert_native_qdq, native_tensors
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.trial import TrialOutput, trial_model
from calib.progress import Advance
from calib.stages.inputs import Inputs
from calib.stages.native import clipped_ranges, other_thresholds
from calib.stages.observation import Observed
from calib.stages.panel import open_panel
from calib.stages.prepare import Prepared
from calib.stages.unfit import why_unfit
from calib.stages.workbench import Workbench
from calib.store import write_atomically
from data_loaders import Batch
from data_loaders.types import Array

TensorErrors = dict[str, dict[str, float]]
_CHOSEN = TypeAdapter(dict[str, str])


def choose(
    bench: Workbench,
    inputs: Inputs,
    ready: Prepared,
    seen: Observed,
    spec: AutoSpec,
    statistics: Mapping[str, TensorStatistics],
) -> dict[str, str]:
    """The name of the candidate to take, by tensor.

    Raises:
        ConfigError: if there are too few batches to hold one out.
    """
    key = {"observed": seen.digest, "spec": spec.model_dump(mode="json")}

    def make(folder: Path, advance: Advance) -> None:
        proposals = [dict.fromkeys(statistics, c.name) for c in spec.candidates]
        chosen = proposals[0]
        # Where all thresholds belong to a shift there is nothing to choose.
        free = tuple(s for s in ready.selection.activations if s.tensor not in ready.amax)
        if free:
            some = replace(ready.selection, activations=free)
            errors = _trial(
                bench, inputs, replace(ready, selection=some), seen, spec, folder, advance
            )
            mixture = {**chosen, **choices(errors)}
            chosen = _best(bench, inputs, ready, seen, spec, [mixture, *proposals])
        write_atomically(folder / "chosen.json", json.dumps(chosen))

    found = bench.artifact("trial", f"choose {spec.name}", key, make)
    return _CHOSEN.validate_json((found.path / "chosen.json").read_bytes())


def _best(
    bench: Workbench,
    inputs: Inputs,
    ready: Prepared,
    seen: Observed,
    spec: AutoSpec,
    proposals: list[dict[str, str]],
) -> dict[str, str]:
    """The proposal of least error at the model's scores; each set of thresholds is run once."""
    by_name = {candidate.name: candidate for candidate in spec.candidates}
    whole = {name: parts.whole() for name, parts in seen.content.parts.items()}
    tensors = ready.selection.activation_tensors
    panel = open_panel(bench, inputs, ready.plain)
    known: dict[tuple[float, ...], float] = {}

    def noise(proposal: Mapping[str, str]) -> float:
        amax = {n: amax_from_statistics(by_name[proposal[n]], whole[n]) for n in tensors}
        fixed = {**amax, **ready.amax}
        thresholds = tuple(fixed.values())
        if thresholds not in known:
            model = _int8(bench, ready, spec, whole, fixed)
            known[thresholds] = panel.judge(model).noise
        return known[thresholds]

    return min(proposals, key=noise)


def _int8(
    bench: Workbench,
    ready: Prepared,
    spec: AutoSpec,
    whole: Mapping[str, TensorStatistics],
    amax: Mapping[str, float],
) -> Graph:
    """The INT8 model at these thresholds, in the layout that is asked for."""
    asked = bench.experiment.quantization
    if asked.layout == "tensorrt":
        return insert_qdq(ready.graph, ready.selection, amax, ready.corrections)
    wanted = native_tensors(ready.graph, ready.selection)
    rest = {n: s for n, s in whole.items() if n not in amax and why_unfit(s) is None}
    both = {**other_thresholds(spec, rest), **amax}
    return insert_native_qdq(
        ready.graph,
        ready.selection,
        clipped_ranges(wanted, whole, both, ready.amax),
        ready.corrections,
        limit=asked.weight_limit,
    )


def choices(errors: TensorErrors) -> dict[str, str]:
    """The name of the chosen candidate by tensor."""
    return {tensor: least_error(by_candidate) for tensor, by_candidate in errors.items()}


def _trial(
    bench: Workbench,
    inputs: Inputs,
    ready: Prepared,
    seen: Observed,
    spec: AutoSpec,
    folder: Path,
    advance: Advance,
) -> TensorErrors:
    parts = seen.content.parts
    first = _held_out(parts, seen.content.batches)
    rest = {name: _without_last(p) for name, p in parts.items()}
    amax = {
        candidate.name: {name: amax_from_statistics(candidate, s) for name, s in rest.items()}
        for candidate in spec.candidates
    }
    ranges: dict[str, dict[str, Range]] | None = None
    if bench.experiment.quantization.layout == "native":
        tensors = ready.selection.activation_tensors
        ranges = {name: clipped_ranges(tensors, rest, amax[name], {}) for name in amax}
    model, outputs = trial_model(ready.graph, ready.selection, amax, ranges)
    path = folder / "trial.onnx"
    save_model(model, path)
    # At its higher levels the runtime would merge Q/DQ pairs with their neighbours.
    runtime = OnnxRuntime(bench.backend.spec.model_copy(update={"optimization": "basic"}))
    sums: dict[TrialOutput, float] = defaultdict(float)
    with runtime.engine(path) as engine:
        for batch in _some(inputs, first, min(first + spec.trial_batches, seen.content.batches)):
            found = engine.infer(batch.inputs)
            for output in outputs:
                sums[output] += _sum(found[output.name], batch)
            advance(len(batch))
    path.unlink()
    return _relative(sums)


def _held_out(parts: Mapping[str, TensorParts], batches: int) -> int:
    """The first batch of the last part."""
    if batches < 2:
        raise ConfigError(
            "calibration.calibrators",
            "auto holds out a part of the calibration batches, and there is only one",
            fix="Give more calibration samples, or a smaller data.batch_size.",
        )
    tensor = next(iter(parts.values()))
    return (len(tensor.parts) - 1) * tensor.size


def _without_last(parts: TensorParts) -> TensorStatistics:
    return TensorParts(parts.size, parts.parts[:-1]).whole()


def _some(inputs: Inputs, start: int, stop: int) -> Iterator[Batch]:
    for number, batch in enumerate(inputs.calibration.batches()):
        if number >= stop:
            return
        if number >= start:
            yield batch


def _sum(squares: Array, batch: Batch) -> float:
    """Added up over what is not padding, in float64; NaN is a masked row's, in FP32 as well."""
    if batch.real is not None and squares.shape == batch.real.shape:
        squares = squares[batch.real]
    return float(np.sum(squares, dtype=np.float64, where=~np.isnan(squares)))


def _relative(sums: Mapping[TrialOutput, float]) -> TensorErrors:
    energy = {output.site: value for output, value in sums.items() if output.candidate is None}
    errors: TensorErrors = {}
    for output, value in sums.items():
        if output.candidate is None:
            continue
        of_tensor = errors.setdefault(output.tensor, {})
        share = value / energy[output.site] if energy[output.site] else 0.0
        of_tensor[output.candidate] = of_tensor.get(output.candidate, 0.0) + share
    return errors
