"""How much the figures move when calibration is resampled."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np

from calib.calibrators import TensorStatistics
from calib.calibrators.parts import TensorParts
from calib.results import Precision, ResampleRecord
from calib.stages.analyse import Outputs, analyse_candidate
from calib.stages.calibrate import Calibration, Candidate, build_int8
from calib.stages.inputs import Inputs
from calib.stages.measure import run_outputs
from calib.stages.native import clipped_ranges
from calib.stages.observation import observed
from calib.stages.prepare import prepared, without_unfit
from calib.stages.shard import Shard
from calib.stages.thresholds import find_thresholds
from calib.stages.workbench import Workbench


def resampled(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    outputs: Outputs,
) -> tuple[ResampleRecord, ...]:
    """The candidate built and judged again by thresholds of resampled calibration data.

    The parts of the data that the pass kept apart are drawn with replacement, the same ones for
    every tensor, with the seeds 0, 1, … What remedies fitted stays as it is.

    Args:
        bench: the backend and the store.
        inputs: the model and the data.
        calibration: that the candidate was built from.
        candidate: INT8; others have no calibration, and give nothing.
        outputs: where FP32's are.
    """
    wanted = bench.experiment.analysis.resamples
    if not wanted or candidate.precision is not Precision.INT8 or candidate.calibrator is None:
        return ()
    return tuple(
        _one(bench, inputs, calibration, candidate, outputs, seed) for seed in range(wanted)
    )


def drawn(parts: Mapping[str, TensorParts], seed: int) -> dict[str, TensorStatistics]:
    """Each tensor's statistics over as many of its parts as there are, drawn with replacement."""
    many = max(len(own.parts) for own in parts.values())
    chosen = np.random.default_rng(seed).integers(0, many, many)
    return {
        name: reduce(TensorStatistics.merge, [own.parts[k % len(own.parts)] for k in chosen])
        for name, own in parts.items()
    }


def _one(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    outputs: Outputs,
    seed: int,
) -> ResampleRecord:
    name = candidate.calibrator or ""
    own = _calibrated(bench, inputs, calibration, name, seed)
    built = build_int8(bench, own, f"{candidate.name}, resample {seed + 1}", name, candidate.rest)
    again = Outputs(outputs.reference, run_outputs(bench, inputs, built))
    found = analyse_candidate(bench, inputs, built, again, lambda *_: None)
    headline = found.score.headline
    moved = (
        100 * abs(own.amax[name][tensor] / before - 1)
        for tensor, before in calibration.amax[name].items()
        if before > 0
    )
    return ResampleRecord(
        seed=seed,
        value=headline.value if headline is not None else None,
        flips=found.flips.total,
        worsened=found.flips.worsened,
        thresholds_moved_pct=max(moved, default=0.0),
    )


def _calibrated(
    bench: Workbench, inputs: Inputs, calibration: Calibration, name: str, seed: int
) -> Calibration:
    ready = prepared(bench, inputs)
    seen = observed(bench, inputs, ready, Shard())
    whole = {tensor: parts.whole() for tensor, parts in seen.content.parts.items()}
    ready = without_unfit(bench, ready, whole)
    again = drawn(seen.content.parts, seed)
    spec = next(s for s in bench.experiment.calibration.calibrators if s.name == name)
    statistics = {tensor: again[tensor] for tensor in calibration.selection.activation_tensors}
    amax = find_thresholds(bench, inputs, ready, seen, spec, statistics).amax
    ranges = dict(calibration.ranges)
    if name in ranges:
        wanted = tuple(ranges[name])
        both = {**calibration.others.get(name, {}), **amax}
        ranges[name] = clipped_ranges(wanted, again, both, ready.amax)
    return replace(
        calibration,
        amax={**calibration.amax, name: amax},
        ranges=ranges,
        digest=f"{calibration.digest}-{seed}",
    )
