"""What a calibration found, as it is recorded."""

from collections.abc import Iterator

from calib.calibrators import Convergence, TensorStatistics, clipped_pct
from calib.graph.load import Graph
from calib.graph.qdq import weight_records
from calib.graph.taps import taps_from_tensors
from calib.results import ActivationRecord, CalibrationRecord, NotFiniteRecord
from calib.stages.cautions import clipping, drowned, few_values, odd_values
from calib.stages.observation import Observed
from calib.stages.prepare import Prepared
from calib.stages.thresholds import Thresholds
from calib.stages.workbench import Workbench

HISTOGRAM_PARTS = 128
"""For the record: enough to see the shape, of which at least half is up to the maximum."""


def calibration_record(
    bench: Workbench,
    ready: Prepared,
    seen: Observed,
    statistics: dict[str, TensorStatistics],
    thresholds: dict[str, Thresholds],
    growth: dict[tuple[str, str], Convergence],
    batch_size: int,
) -> CalibrationRecord:
    """What the pass found, for the report; without warnings."""
    graph, selection = ready.graph, ready.selection
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
            histogram=statistics[name].folded(HISTOGRAM_PARTS),
            histogram_end=statistics[name].end,
            growth={c: growth[c, name].growth for c in thresholds if (c, name) in growth},
            standard_error_pct={
                c: growth[c, name].standard_error_pct for c in thresholds if (c, name) in growth
            },
            halves_pct={c: growth[c, name].halves_pct for c in thresholds if (c, name) in growth},
            enough={
                c: growth[c, name].enough(tolerance) for c in thresholds if (c, name) in growth
            },
            chosen={c: f.chosen[name].name for c, f in thresholds.items() if name in f.chosen},
            fallback={c: f.formula[name].name for c, f in thresholds.items() if name in f.fallback},
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
        weights=weight_records(graph, selection, bench.experiment.quantization.weight_limit),
        left_alone=selection.left_alone,
        not_finite=tuple(_not_finite(s) for s in statistics.values() if s.not_finite.values),
    )


def _not_finite(found: TensorStatistics) -> NotFiniteRecord:
    bad = found.not_finite
    return NotFiniteRecord(
        tensor=found.name,
        finite=found.count,
        nan=bad.nan,
        positive=bad.positive,
        negative=bad.negative,
        samples=bad.samples,
        ids=bad.ids,
    )


def calibration_warnings(
    bench: Workbench,
    ready: Prepared,
    before: frozenset[str],
    seen: Observed,
    statistics: dict[str, TensorStatistics],
    thresholds: dict[str, Thresholds],
) -> Iterator[str]:
    """What to know of the tensors and of every calibrator's thresholds; see `cautions`."""
    settings = bench.experiment.calibration
    tensors = ready.selection.activation_tensors
    yield from odd_values(statistics, frozenset(tensors), before)
    taps = taps_from_tensors(ready.graph, tensors)
    own_inputs = frozenset(name for tap in taps if tap.is_input for name in tap.tensors)
    free = {name: statistics[name] for name in tensors if name not in ready.amax}
    for spec in settings.calibrators:
        found = thresholds[spec.name]
        yield from few_values(spec, found)
        yield from clipping(spec, free, found.amax, own_inputs, settings.clip_warn_pct)
        yield from drowned(spec, free, found.amax)
    yield from _given_up(seen)


def _given_up(seen: Observed) -> Iterator[str]:
    for name in seen.content.made_from["tensors"]:
        if name not in seen.content.parts:  # a statistics file of format 2
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
