"""Making INT8 accurate: remedies, then the smallest part in float; calibration data only."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.graph.groups import Group, groups_from_selection
from calib.graph.linear import linears
from calib.graph.load import Graph
from calib.graph.macs import macs_by_node
from calib.graph.qdq import Corrections, QuantizedWeight
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.select import Selection, SelectionSpec, select
from calib.graph.switched import ACTIVATIONS, WEIGHTS, switched
from calib.progress import Advance
from calib.results import FloatTrial, GroupRecord, RemediesRecord, RemedyStep
from calib.search.mixed_precision import Found, Goal, leave_in_float
from calib.stages.build import Built, Plan, Source, build
from calib.stages.fit import fit
from calib.stages.inputs import Inputs
from calib.stages.ladder import Step, climb, kept
from calib.stages.panel import Panel, open_panel
from calib.stages.workbench import Workbench
from calib.store import write_atomically
from data_loaders.types import Array

EQUAL_DB = 80.0
"""Rewriting moves float32's last digits; less than this is no rounding any more."""
_MARGIN_DB = 1.5
"""Choosing by a few samples flatters the choice: on others it is worse by about a decibel."""
_ALONE_SAMPLES = 16
_TRIED_SAMPLES = 64
_TRIES_MAX = 48


@dataclass(frozen=True, slots=True)
class Remedied:
    """The FP32 model rewritten, and what quantizing it takes.

    Attributes:
        graph: equal to the original within float rounding.
        selection: of that graph.
        amax: thresholds that belong to a shift of their tensor, by tensor.
        corrections: of weights and biases.
        record: what was done.
        spec: what was asked for.
        path: the rewritten model as a file.
        digest: of everything it depends on.
    """

    graph: Graph
    selection: Selection
    amax: Mapping[str, float]
    corrections: Corrections
    record: RemediesRecord
    spec: SelectionSpec
    path: Path
    digest: str


def improved(bench: Workbench, inputs: Inputs, graph: Graph, selection: Selection) -> Remedied:
    """Remedies and mixed precision as the config says, or what the store has of it.

    Args:
        bench: the store and the backend.
        inputs: the model and the calibration samples.
        graph: the FP32 model with BatchNormalization folded in.
        selection: what would become INT8 without remedies.
    """
    spec = bench.experiment.quantization
    key = {
        "model": inputs.model.record.sha256,
        "data": inputs.calibration.scan.sha256,
        "batch_size": inputs.calibration.batch_size,
        "selection": spec.model_dump(mode="json"),
        "fold_batchnorm": bench.experiment.engines.fold_batchnorm,
        "task_output": inputs.task_output.name,
    }

    def make(folder: Path, advance: Advance) -> None:
        _improve(bench, inputs, graph, selection, folder, advance)

    found = bench.artifact("remedies", "remedies", key, make)
    return _read(bench, found.path, found.digest)


def _improve(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    selection: Selection,
    folder: Path,
    advance: Advance,
) -> None:
    begin = time.perf_counter()
    panel = open_panel(bench, inputs)
    nodes = linears(graph, selection)
    read = {linear.tensor for linear in nodes.values()}
    others = [tensor for tensor in selection.activation_tensors if tensor not in read]
    fitted = fit(bench, inputs, graph, nodes, others, advance)
    spec, threads = bench.experiment.quantization, bench.backend.threads
    source = Source(graph, spec, selection, nodes, fitted, threads)
    steps = climb(source, panel)
    last = list(kept(steps))[-1]
    mixed = _mixed(source, panel, last, folder)
    built = build(source, mixed.plan, last.built.corrections)
    equality = panel.judge(built.graph).sqnr_db
    record = RemediesRecord(
        fitted_samples=inputs.calibration.scan.samples - panel.samples,
        kept_aside=panel.samples,
        passes=(inputs.calibration.scan.samples + panel.judged) / inputs.calibration.scan.samples,
        seconds=time.perf_counter() - begin,
        equality_db=equality if np.isfinite(equality) else None,
        steps=tuple(_step_record(step) for step in steps),
        groups=mixed.groups,
        trials=mixed.trials,
        macs_int8_pct=mixed.macs_int8_pct,
    )
    if equality < EQUAL_DB:
        built = build(source, Plan({}))
        warning = f"the rewritten model was only {equality:.0f} dB from the original: not used"
        record = record.model_copy(update={"warnings": (warning,)})
    _write(built, record, folder)


@dataclass(frozen=True, slots=True)
class _Mixed:
    plan: Plan
    groups: tuple[GroupRecord, ...]
    trials: tuple[FloatTrial, ...]
    macs_int8_pct: float


def _mixed(source: Source, panel: Panel, last: Step, folder: Path) -> _Mixed:
    """Each group alone, then as many of them in float as the goal asks for."""
    spec = source.spec
    built = last.built
    batch = panel.batches[0]
    shapes = {name: array.shape for name, array in batch.inputs.items()}
    macs = {n: count // len(batch) for n, count in macs_by_node(built.graph, shapes).items()}
    groups = groups_from_selection(built.selection, macs)
    total = max(sum(macs.values()), 1)
    path = folder / "switched.onnx"
    save_model(switched(built.graph, built.selection, built.amax, built.corrections, groups), path)
    with panel.bench.backend.engine(path) as engine:
        measure = _measure(panel, engine, groups)
        names = frozenset(group.name for group in groups)
        floor = measure(names, _ALONE_SAMPLES)
        alone = {
            g.name: max(measure(names - {g.name}, _ALONE_SAMPLES) - floor, 0.0) for g in groups
        }
        found = Found(frozenset(), 0.0, ())
        if spec.mixed_precision == "auto":
            most = 1 - spec.macs_int8_pct_min / 100
            known = sum(group.macs for group in groups)
            spent = 1 - known / total if known else 0.0
            goal = Goal(10 ** (-(spec.sqnr_db_min + _MARGIN_DB) / 10), most=most, spent=spent)
            weights = {group.name: group.macs for group in groups}
            found = leave_in_float(
                weights, alone, lambda floats: measure(floats, _TRIED_SAMPLES), goal, _TRIES_MAX
            )
    path.unlink()
    floats = {
        node: f"left in float: its group alone makes {_db(alone[group.name]):.1f} dB"
        for group in groups
        if group.name in found.floats
        for node in group.nodes
    }
    in_int8 = sum(g.macs for g in groups if g.name not in found.floats)
    return _Mixed(
        replace(last.plan, floats=floats),
        tuple(_group_record(g, alone[g.name], total, found.floats) for g in groups),
        tuple(
            FloatTrial(
                group=t.group,
                sqnr_db=_db(t.noise),
                macs_int8_pct=100 * (1 - t.share),
                kept=t.group in found.floats,
            )
            for t in found.trials
        ),
        100 * in_int8 / total,
    )


def _measure(
    panel: Panel, engine: Engine, groups: tuple[Group, ...]
) -> Callable[[frozenset[str], int], float]:
    def measure(floats: frozenset[str], samples: int) -> float:
        on: NDArray[np.bool_] = np.array([group.name not in floats for group in groups])
        found = panel.judge_engine(engine, {ACTIVATIONS: on, WEIGHTS: on}, samples)
        return found.noise if np.isfinite(found.noise) else np.inf

    return measure


def _db(noise: float) -> float:
    return float(-10 * np.log10(max(noise, 1e-30)))


def _group_record(group: Group, alone: float, total: int, floats: frozenset[str]) -> GroupRecord:
    return GroupRecord(
        name=group.name,
        nodes=group.nodes,
        macs_pct=100 * group.macs / total,
        alone_db=_db(alone) if alone > 0 else None,
        in_float=group.name in floats,
    )


def _step_record(step: Step) -> RemedyStep:
    graph = step.built.graph.graph
    constants = (value.const_value for value in graph.initializers.values())
    return RemedyStep(
        name=step.name,
        what=step.what,
        sqnr_db=step.error.sqnr_db,
        changed=step.error.changed,
        kept=step.kept,
        nodes=len(graph),
        size_bytes=sum(constant.nbytes for constant in constants if constant is not None),
    )


def _write(built: Built, record: RemediesRecord, folder: Path) -> None:
    save_model(built.graph, folder / "rewritten.onnx")
    arrays: dict[str, Array] = {}
    for node, weight in built.corrections.weights.items():
        arrays[f"codes/{node}"] = weight.values
        arrays[f"scales/{node}"] = weight.scales
    for node, delta in built.corrections.bias.items():
        arrays[f"bias/{node}"] = delta
    np.savez(folder / "corrections.npz", allow_pickle=False, **arrays)
    content = {
        "amax": {name: built.amax[name] for name in sorted(built.aligned)},
        "floats": dict(built.floats),
    }
    write_atomically(folder / "plan.json", json.dumps(content))
    write_atomically(folder / "record.json", record.model_dump_json())


def _read(bench: Workbench, folder: Path, digest: str) -> Remedied:
    path = folder / "rewritten.onnx"
    graph = read_graph(path)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    with np.load(folder / "corrections.npz") as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    named = {kind: _of_kind(parts, kind) for kind in ("codes", "scales", "bias")}
    weights = {n: QuantizedWeight(codes, named["scales"][n]) for n, codes in named["codes"].items()}
    return Remedied(
        graph=graph,
        selection=select(graph, bench.experiment.quantization, plan["floats"]),
        amax=plan["amax"],
        corrections=Corrections(weights, named["bias"]),
        record=RemediesRecord.model_validate_json((folder / "record.json").read_bytes()),
        spec=bench.experiment.quantization,
        path=path,
        digest=digest,
    )


def _of_kind(parts: Mapping[str, Array], kind: str) -> dict[str, Array]:
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): a for n, a in parts.items() if n.startswith(prefix)}
