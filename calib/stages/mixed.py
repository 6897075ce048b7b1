"""Each group of nodes alone, then the smallest part of them in float that the goal asks for."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.graph.groups import Group, groups_from_selection
from calib.graph.load import Graph
from calib.graph.macs import macs_by_node
from calib.graph.save import save_model
from calib.graph.select import Selection, select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.switched import ACTIVATIONS, WEIGHTS, switched
from calib.journal import Journal
from calib.progress import Advance
from calib.results import FloatTrial, GroupRecord
from calib.search.mixed_precision import Found, Goal, leave_in_float
from calib.stages.build import Built, Source
from calib.stages.panel import Panel
from calib.store import digest_from_key, sha256_from_file

_MARGIN_DB = 1.0
"""Choosing by a few samples flatters the choice: on others it is worse by about that."""
ALONE_SAMPLES = 16
TRIED_SAMPLES = 64
TRIES_MAX = 24

Measure = Callable[[frozenset[str], int], float]
"""The noise at the scores with these groups in float, by about so many samples."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """What was found.

    Attributes:
        floats: nodes left in float, and why.
        alone: noise of each group alone.
        groups: the same, as recorded.
        trials: the choices that were measured.
        macs_int8_pct: what stays in INT8.
        noise: of the choice, at the scores; None if nothing was measured.
    """

    floats: dict[str, str]
    alone: dict[str, float]
    groups: tuple[GroupRecord, ...]
    trials: tuple[FloatTrial, ...]
    macs_int8_pct: float
    noise: float | None


@dataclass(frozen=True, slots=True)
class Search:
    """What a search runs on, and what it reports to.

    Attributes:
        panel: the samples kept aside.
        journal: keeps what was measured.
        advance: told the samples run.
        stopped: whether somebody wants the best so far.
        folder: for models that are measured, while they are needed.
    """

    panel: Panel
    journal: Journal
    advance: Advance
    stopped: Callable[[], bool]
    folder: Path


def groups_of(graph: Graph, selection: Selection, panel: Panel) -> tuple[tuple[Group, ...], int]:
    """The groups, and the multiply-accumulates of the whole model in a sample."""
    batch = panel.batches[0]
    shapes = {name: array.shape for name, array in batch.inputs.items()}
    macs = {n: count // len(batch) for n, count in macs_by_node(graph, shapes).items()}
    return groups_from_selection(selection, macs), max(sum(macs.values()), 1)


def mixed(
    search: Search, source: Source, built: Built, known: Mapping[str, float] | None = None
) -> Mixed:
    """Each group alone in INT8, then as many of them in float as the goal asks for.

    Args:
        search: what it runs on.
        source: the goal.
        built: the model, nothing of it left in float by choice.
        known: noise of each group alone, where it is known.
    """
    spec = source.spec
    groups, total = groups_of(built.graph, built.selection, search.panel)
    with _by_switches(search, built, groups) as by_switches:
        names = [group.name for group in groups]
        alone = dict(known) if known is not None else dict.fromkeys(names, 0.0)
        for name in names if known is None else ():
            if not search.stopped():
                alone[name] = by_switches(frozenset(names) - {name}, ALONE_SAMPLES)
        found = Found(frozenset(), 0.0, ())
        if spec.mixed_precision == "auto":
            measure = by_switches
            if built.ranges is not None:
                measure = _by_graphs(search, source, built, groups)
            weighed = sum(group.macs for group in groups)
            goal = Goal(
                _noise_goal(search.panel, spec),
                most=1 - spec.macs_int8_pct_min / 100,
                spent=1 - weighed / total if weighed else 0.0,
            )
            found = leave_in_float(
                {group.name: group.macs for group in groups},
                alone,
                lambda floats: measure(floats, TRIED_SAMPLES),
                goal,
                TRIES_MAX,
                search.stopped,
            )
    return _outcome(groups, alone, found, total)


def _noise_goal(panel: Panel, spec: SelectionSpec) -> float:
    sqnr = 10 ** (-spec.sqnr_db_min / 10)
    flips = panel.noise_for_flips(spec.flips_pct_max) if spec.flips_pct_max else math.inf
    return min(sqnr, flips) * 10 ** (-_MARGIN_DB / 10)


def _write_switched(
    panel: Panel, built: Built, groups: tuple[Group, ...], path: Path
) -> tuple[Path, ...]:
    """The files; in a function of its own, so that the graph's memory is let go."""
    graph = switched(
        built.graph,
        built.selection,
        built.amax,
        built.corrections,
        groups,
        ranges=built.ranges,
        limit=built.limit,
    )
    save_model(panel.exposed(graph), path, passing=True)
    return tuple(sorted(path.parent.glob(f"{path.name}*")))


@contextmanager
def _by_switches(search: Search, built: Built, groups: tuple[Group, ...]) -> Iterator[Measure]:
    """One model with switches: a choice is a run."""
    path = search.folder / "switched.onnx"
    files = _write_switched(search.panel, built, groups, path)
    with search.panel.bench.backend.engine(path) as engine:
        yield _measure(search, engine, groups, _digest(files))
    for file in files:
        file.unlink()


def _by_graphs(search: Search, source: Source, built: Built, groups: tuple[Group, ...]) -> Measure:
    """A model for each choice: which outputs are rounded depends on what is around them."""
    path = search.folder / "native.onnx"
    save_model(built.int8(), path, passing=True)
    files = tuple(sorted(path.parent.glob(f"{path.name}*")))
    digest = _digest(files)
    for file in files:
        file.unlink()

    def run(floats: frozenset[str], samples: int) -> float:
        tried = {
            n: "tried in float" for group in groups if group.name in floats for n in group.nodes
        }
        selection = select(built.graph, source.spec, {**built.floats, **tried})
        found = search.panel.judge(replace(built, selection=selection).int8(), samples)
        search.advance(found.samples)
        return found.noise

    return _kept(search, digest, run)


def _digest(files: tuple[Path, ...]) -> str:
    return digest_from_key({"files": [sha256_from_file(file) for file in files]})


def _measure(search: Search, engine: Engine, groups: tuple[Group, ...], digest: str) -> Measure:
    def run(floats: frozenset[str], samples: int) -> float:
        on: NDArray[np.bool_] = np.array([group.name not in floats for group in groups])
        found = search.panel.judge_engine(engine, {ACTIVATIONS: on, WEIGHTS: on}, samples)
        search.advance(found.samples)
        return found.noise

    return _kept(search, digest, run)


def _kept(search: Search, digest: str, run: Measure) -> Measure:
    """The same, from the journal where it was measured before."""

    def measure(floats: frozenset[str], samples: int) -> float:
        chosen = digest_from_key({"floats": sorted(floats)})
        name = f"{digest[:16]} {chosen[:16]} {samples}"
        return search.journal.once(name, lambda: [run(floats, samples)])[0]

    return measure


def _outcome(groups: tuple[Group, ...], alone: dict[str, float], found: Found, total: int) -> Mixed:
    floats = {
        node: f"left in float: its group alone makes {_db(alone[group.name]):.1f} dB"
        for group in groups
        if group.name in found.floats
        for node in group.nodes
    }
    in_int8 = sum(g.macs for g in groups if g.name not in found.floats)
    return Mixed(
        floats,
        alone,
        tuple(_group_record(g, alone[g.name], total, found.floats) for g in groups),
        tuple(
            FloatTrial(
                groups=tuple(sorted(trial.floats)),
                sqnr_db=_db(trial.noise),
                macs_int8_pct=100 * (1 - trial.share),
                kept=trial.floats == found.floats,
            )
            for trial in found.trials
        ),
        100 * in_int8 / total,
        found.noise if found.trials else None,
    )


def _group_record(group: Group, alone: float, total: int, floats: frozenset[str]) -> GroupRecord:
    return GroupRecord(
        name=group.name,
        nodes=group.nodes,
        macs_pct=100 * group.macs / total,
        alone_db=_db(alone) if alone > 0 else None,
        in_float=group.name in floats,
    )


def _db(noise: float) -> float:
    return float(-10 * np.log10(max(noise, 1e-30)))
