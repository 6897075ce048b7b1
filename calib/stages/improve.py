"""Making INT8 accurate: remedies, then the smallest part in float; calibration data only."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calib.graph.groups import groups_from_selection
from calib.graph.linear import linears
from calib.graph.load import Graph
from calib.graph.native import native_tensors
from calib.graph.qdq import Corrections, QuantizedWeight
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.select import Selection, select
from calib.graph.selection_spec import SelectionSpec
from calib.journal import Journal
from calib.progress import Advance
from calib.results import RemediesRecord, RemedyStep
from calib.stages.build import Built, Plan, Source, build
from calib.stages.fit import fit
from calib.stages.inputs import Inputs
from calib.stages.ladder import Step, climb, climb_on, last_kept
from calib.stages.mixed import ALONE_SAMPLES, TRIED_SAMPLES, Search, mixed
from calib.stages.panel import KEPT_MAX, open_panel
from calib.stages.unfit import floats_from, unfit_warnings
from calib.stages.workbench import Workbench
from calib.stop import stoppable
from calib.store import write_atomically
from data_loaders.types import Array

_JUDGEMENTS, _SEARCH_RUNS = 8, 14
"""Of remedies, and of choices of what stays in float, as it usually goes."""
EQUAL_DB = 80.0
"""Rewriting moves float32's last digits; less than this is no rounding any more."""


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
        floats: nodes left in float beyond the config's rules, and why.
    """

    graph: Graph
    selection: Selection
    amax: Mapping[str, float]
    corrections: Corrections
    record: RemediesRecord
    spec: SelectionSpec
    path: Path
    digest: str
    floats: Mapping[str, str]


def improved(bench: Workbench, inputs: Inputs, graph: Graph, selection: Selection) -> Remedied:
    """Remedies and mixed precision as the config says, or what the store has of it.

    Args:
        bench: the store and the backend.
        inputs: the model and the calibration samples.
        graph: the FP32 model with BatchNormalization folded in.
        selection: what would become INT8 without remedies.
    """
    experiment = bench.experiment
    spec = experiment.quantization
    key = {
        "model": inputs.model.record.sha256,
        "data": inputs.calibration.scan.sha256,
        "batch_size": inputs.calibration.batch_size,
        "selection": spec.model_dump(mode="json"),
        "fold_batchnorm": experiment.engines.fold_batchnorm,
        "ignore_padding": experiment.calibration.ignore_padding,
        "task": [experiment.task.kind, inputs.task_output.name],
    }

    journal = bench.journal("remedies", key)

    def make(folder: Path, advance: Advance) -> None:
        with stoppable(bench.progress.note) as stopped:
            task = _Task(bench, inputs, graph, selection, journal, advance, stopped)
            built, record = _improve(task, folder)
        if record.stopped:
            raise _StoppedError(built, record)
        _write(built, record, folder)
        journal.close()

    try:
        found = bench.artifact("remedies", "remedies", key, make, _expected(inputs, selection))
    except _StoppedError as so_far:
        built, record = so_far.built, so_far.record
        once = {**key, "stopped": time.time_ns()}
        found = bench.artifact(
            "remedies", "remedies so far", once, lambda f, _: _write(built, record, f)
        )
    return _read(bench, found.path, found.digest)


def _expected(inputs: Inputs, selection: Selection) -> int:
    """About how many samples will be run, for the time left."""
    samples = inputs.calibration.scan.samples
    aside = min(KEPT_MAX, samples // 4)
    groups = len(groups_from_selection(selection, {}))
    judged = _JUDGEMENTS * aside + groups * min(ALONE_SAMPLES, aside)
    return samples - aside + judged + _SEARCH_RUNS * min(TRIED_SAMPLES, aside)


class _StoppedError(Exception):
    """Somebody wanted the best so far: it is no finished stage, and a later run goes on from it."""

    def __init__(self, built: Built, record: RemediesRecord) -> None:
        super().__init__()
        self.built, self.record = built, record


@dataclass(frozen=True, slots=True)
class _Task:
    bench: Workbench
    inputs: Inputs
    graph: Graph
    selection: Selection
    journal: Journal
    advance: Advance
    stopped: Callable[[], bool]


def _improve(task: _Task, folder: Path) -> tuple[Built, RemediesRecord]:
    begin = time.perf_counter()
    bench, inputs, graph = task.bench, task.inputs, task.graph
    panel = open_panel(bench, inputs, graph)
    search = Search(panel, task.journal, task.advance, task.stopped, folder)
    nodes = linears(graph, task.selection)
    read = {linear.tensor for linear in nodes.values()}
    spec = bench.experiment.quantization
    rounded = (
        native_tensors(graph, task.selection)
        if spec.layout == "native"
        else task.selection.activation_tensors
    )
    others = [tensor for tensor in rounded if tensor not in read]
    fitted = fit(bench, inputs, graph, nodes, others, task.advance)
    threads = bench.backend.threads
    scores = frozenset(score.tensor for score in panel.scores)
    unfit = floats_from(task.selection, fitted.unfit)
    selection = select(graph, spec, unfit) if unfit else task.selection
    nodes = {name: linear for name, linear in nodes.items() if name not in unfit}
    source = Source(graph, spec, selection, nodes, fitted, threads, scores, unfit)
    steps = climb(source, search)
    last = last_kept(steps)
    found = mixed(search, source, build(source, last.plan, last.found))
    if found.floats and not task.stopped():
        more = climb_on(source, search, steps, found)
        if more is not None:
            same = more.plan.equalized == last.plan.equalized
            built = build(source, more.plan, more.found)
            found = mixed(search, source, built, found.alone if same else None)
            last, steps = more, (*steps, more)
    built = build(source, replace(last.plan, floats=found.floats), last.found)
    equality = panel.judge(built.graph).sqnr_db
    count = inputs.calibration.scan.samples
    noise = last.error.noise if found.noise is None else found.noise
    record = RemediesRecord(
        fitted_samples=count - panel.samples,
        kept_aside=panel.samples,
        passes=(count + panel.judged) / count,
        seconds=time.perf_counter() - begin,
        equality_db=equality if np.isfinite(equality) else None,
        steps=tuple(_step_record(step) for step in steps),
        groups=found.groups,
        trials=found.trials,
        macs_int8_pct=found.macs_int8_pct,
        expected_flips_pct=panel.expected_flips_pct(noise),
        stopped=task.stopped(),
        warnings=tuple(unfit_warnings(task.selection, fitted.unfit)),
    )
    if equality < EQUAL_DB:
        built = build(source, Plan({}))
        warning = f"the rewritten model was only {equality:.0f} dB from the original: not used"
        record = record.model_copy(update={"warnings": (*record.warnings, warning)})
    return built, record


def _step_record(step: Step) -> RemedyStep:
    return RemedyStep(
        name=step.name,
        what=step.what,
        sqnr_db=step.error.sqnr_db,
        changed=step.error.changed,
        kept=step.kept,
        parts=step.parts,
        nodes=step.nodes,
        size_bytes=step.size_bytes,
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
        floats=plan["floats"],
    )


def _of_kind(parts: Mapping[str, Array], kind: str) -> dict[str, Array]:
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): a for n, a in parts.items() if n.startswith(prefix)}
