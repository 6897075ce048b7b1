"""Where integers run in the native layout: a few placements, measured, and the one that pays."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calib.analysis.speedup import paired_speedup
from calib.analysis.throughput import time_engines, warm_up
from calib.backends.processor import processor_flags
from calib.errors import ConfigError
from calib.graph.load import Graph
from calib.graph.native import ADDS, BETWEEN, Range, insert_native_qdq
from calib.graph.select import Selection
from calib.graph.selection_spec import PlacementName
from calib.progress import Advance
from calib.results import LeftAloneRecord, PlacementRecord, PlacementTrial
from calib.stages.calibrate import Calibration
from calib.stages.inputs import Inputs
from calib.stages.panel import Panel, open_panel
from calib.stages.workbench import Workbench
from calib.store import write_atomically

BOUND_DB = 1.0
"""What a faster placement may lose in SQNR: less is seldom seen in predictions."""
_EVEN_DB = 0.1
"""Less is the noise of the samples."""
_TOLERANCE_PCT = 5.0
_WARMUP, _ROUNDS, _SECONDS_MAX = 2, 21, 20.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where integers run.

    Attributes:
        name: as the config has it.
        what: a sentence.
        between: operators without weights that run in integers.
        products: whether MatMuls of two activations do.
    """

    name: PlacementName
    what: str
    between: frozenset[str] = BETWEEN
    products: bool = True

    def of(self, selection: Selection) -> tuple[Selection, frozenset[str]]:
        """What is left of a selection, and the nodes that are not."""
        weighted = {site.node for site in selection.weights}
        adds = not ADDS & self.between
        floats = frozenset(
            site.node
            for site in selection.activations
            if (site.op_type == "Add" and adds)
            or (site.op_type != "Add" and not self.products and site.node not in weighted)
        )
        left = tuple(site for site in selection.activations if site.node not in floats)
        return replace(selection, activations=left), floats


PLACEMENTS = (
    Placement("integer", "integers wherever both sides are"),
    Placement("float_adds", "Adds in float: a residual path is not rounded", BETWEEN - ADDS),
    Placement("float_between", "Adds and pooling in float", frozenset()),
    Placement("float_products", "products of two activations in float", products=False),
)


def placed(bench: Workbench, inputs: Inputs, calibration: Calibration) -> Calibration:
    """The calibration with the placement that the config names, or that measures best.

    The first calibrator's ranges decide. Nothing is done in the layout for TensorRT.
    """
    if not calibration.ranges:
        return calibration
    asked = bench.experiment.quantization.placement
    tried = tuple(_unlike(calibration))
    if asked != "auto":
        return _with(calibration, next(p for p in PLACEMENTS if p.name == asked))
    if len(tried) == 1:
        return calibration
    ranges = next(iter(calibration.ranges.values()))
    key = {
        "calibration": calibration.digest,
        "ranges": ranges,
        "selection": bench.experiment.quantization.model_dump(mode="json"),
        "processor": sorted(processor_flags()),
        "placements": [placement.name for placement in tried],
    }

    def make(folder: Path, advance: Advance) -> None:
        panel = open_panel(bench, inputs, calibration.plain)
        graphs = {str(p.name): graph_of(bench, calibration, p, ranges) for p in tried}
        found = _measured(panel, tried, graphs, advance)
        write_atomically(folder / "record.json", found.model_dump_json())

    try:
        made = bench.artifact("placement", "placement", key, make, len(tried) * _ROUNDS)
    except ConfigError:  # there are too few samples to keep some aside
        return calibration
    record = PlacementRecord.model_validate_json((made.path / "record.json").read_bytes())
    name = next(trial.name for trial in record.trials if trial.kept)
    chosen = next(placement for placement in tried if placement.name == name)
    return replace(_with(calibration, chosen), placement=record)


def graph_of(
    bench: Workbench, calibration: Calibration, placement: Placement, ranges: Mapping[str, Range]
) -> Graph:
    """The INT8 model with one placement."""
    return insert_native_qdq(
        calibration.graph,
        placement.of(calibration.selection)[0],
        ranges,
        calibration.corrections,
        limit=bench.experiment.quantization.weight_limit,
        between=placement.between,
    )


def _unlike(calibration: Calibration) -> Iterator[Placement]:
    """The placements that are not one and the same for this model."""
    operators = {node.op_type for node in calibration.graph.graph}
    integer = {site.op_type for site in calibration.selection.weights}
    seen = set()
    for placement in PLACEMENTS:
        _, floats = placement.of(calibration.selection)
        # Without convolutions no output is in integers, so nothing runs between them.
        between = placement.between & operators if "Conv" in integer else frozenset()
        if (floats, between) not in seen:
            seen.add((floats, between))
            yield placement


def _measured(
    panel: Panel,
    placements: Sequence[Placement],
    graphs: Mapping[str, Graph],
    advance: Advance,
) -> PlacementRecord:
    errors = {name: panel.judge(graph).sqnr_db for name, graph in graphs.items()}
    batch = panel.batches[0]
    with ExitStack() as stack:
        engines = {n: stack.enter_context(panel.bench.engine(g)) for n, g in graphs.items()}
        warm_up(
            engines,
            batch.inputs,
            runs_min=_WARMUP,
            runs_max=_ROUNDS,
            seconds_max=_SECONDS_MAX,
            tolerance_pct=_TOLERANCE_PCT,
        )
        times = time_engines(
            engines,
            batch.inputs,
            runs=_ROUNDS,
            seconds_max=_SECONDS_MAX,
            on_run=advance,
        )
    name, why = chosen(errors, times)
    return PlacementRecord(
        samples=panel.samples,
        batch_size=len(batch),
        bound_db=BOUND_DB,
        trials=tuple(
            PlacementTrial(
                name=p.name,
                what=p.what,
                sqnr_db=errors[p.name],
                median_ms=float(np.median(times[p.name])),
                rounds=len(times[p.name]),
                kept=p.name == name,
            )
            for p in placements
        ),
        why=why,
    )


def chosen(
    sqnr_db: Mapping[str, float], times_ms: Mapping[str, Sequence[float]]
) -> tuple[str, str]:
    """The fastest whose SQNR is within `BOUND_DB` of the best; of equally fast ones the best.

    Args:
        sqnr_db: by placement.
        times_ms: of rounds that all placements share, by placement.

    Returns:
        the placement, and why.
    """
    best = max(sqnr_db.values())
    good = [name for name, value in sqnr_db.items() if value >= best - BOUND_DB]
    fastest = min(good, key=lambda name: np.median(times_ms[name]))
    even = [name for name in good if not _is_faster(times_ms[fastest], times_ms[name])]
    least = max(sqnr_db[name] for name in even) - _EVEN_DB
    name = min((n for n in even if sqnr_db[n] >= least), key=lambda n: np.median(times_ms[n]))
    others = ", ".join(
        f"{other} {sqnr_db[other]:.1f} dB in {np.median(times_ms[other]):.2f} ms"
        for other in sqnr_db
        if other != name
    )
    return name, (
        f"{name}, {sqnr_db[name]:.1f} dB in {np.median(times_ms[name]):.2f} ms a batch: the "
        f"fastest within {BOUND_DB:g} dB of the best on samples kept aside ({others})"
    )


def _is_faster(own: Sequence[float], rival: Sequence[float]) -> bool:
    found = paired_speedup(own, rival)
    return found is not None and found.is_faster


def _with(calibration: Calibration, placement: Placement) -> Calibration:
    selection, _ = placement.of(calibration.selection)
    tensors = {*selection.activation_tensors}
    gone = {s.tensor: s for s in calibration.selection.activations if s.tensor not in tensors}
    left = tuple(
        LeftAloneRecord(
            tensor=tensor,
            node=site.node,
            op_type=site.op_type,
            reason=f"quantization.placement: {placement.what}",
        )
        for tensor, site in gone.items()
    )
    known = calibration.record
    record = known.model_copy(
        update={
            "activations": tuple(a for a in known.activations if a.tensor in tensors),
            "left_alone": (*known.left_alone, *left),
        }
    )
    return replace(
        calibration,
        selection=replace(selection, left_alone=(*selection.left_alone, *left)),
        record=record,
        between=placement.between,
    )
