"""Samples, thresholds and nodes of the second run that are not as they were in the first."""

import math
from collections.abc import Iterator

from calib.results import Precision, PrecisionMove, ScaleMove, TailChange
from calib.run_diff.side import Side

_TAIL_SHARE = 0.01
_TAIL_MIN = 10
_MOVED = 0.01


def new_tail(own: Side, other: Side) -> list[TailChange]:
    """What is in the second run's worst per cent, or wrong in it alone, and was not before."""
    size = max(_TAIL_MIN, math.ceil(_TAIL_SHARE * len(own.samples)))
    found = []
    for name, row in other.samples.items():
        before = own.samples[name]
        worsened = row["flip"] == "worsened"
        # One that only moved up because others got better is not new.
        is_tail = row["rank"] <= size and row["margin_loss"] > before["margin_loss"]
        was_tail = before["rank"] <= size
        if (worsened and before["flip"] != "worsened") or (is_tail and not was_tail):
            found.append(
                TailChange(
                    id=name,
                    label=row["label"],
                    first_prediction=before["prediction"],
                    second_prediction=row["prediction"],
                    first_loss=before["margin_loss"],
                    second_loss=row["margin_loss"],
                    first_rank=before["rank"],
                    second_rank=row["rank"],
                    worsened=worsened,
                )
            )
    return sorted(found, key=lambda change: change.second_rank)


def moved_scales(own: Side, other: Side) -> list[ScaleMove]:
    """Thresholds that moved by more than 1 %, the largest moves first."""
    first, second = (_amax(side) for side in (own, other))
    moves = [
        ScaleMove(tensor=name, first=first.get(name), second=second.get(name))
        for name in dict.fromkeys([*first, *second])
    ]
    return sorted((m for m in moves if _moved(m)), key=lambda m: -_size(m))


def _amax(side: Side) -> dict[str, float]:
    name = side.candidate.calibrator
    return {a.tensor: a.amax[name] for a in side.result.calibration.activations if name in a.amax}


def _moved(move: ScaleMove) -> bool:
    if move.first is None or move.second is None:
        return True
    return abs(move.second - move.first) > _MOVED * min(move.first, move.second)


def _size(move: ScaleMove) -> float:
    if not move.first or not move.second:
        return math.inf
    return abs(math.log(move.second / move.first))


def moved_precisions(own: Side, other: Side) -> Iterator[PrecisionMove]:
    """Nodes that were asked for, or ran, in another precision than before.

    What they ran in is what the engine says, or ONNX Runtime's optimized graph, where both runs
    know it.
    """
    ran = [_ran_in(side) for side in (own, other)]
    if not all(ran):
        ran = [{}, {}]
    reads = [_reads(side) for side in (own, other)]
    for node in dict.fromkeys([*reads[0], *reads[1], *ran[0], *ran[1]]):
        tensors = {*reads[0].get(node, ()), *reads[1].get(node, ())}
        asked = [_asked(side, node, tensors) for side in (own, other)]
        really = [found.get(node, "") for found in ran]
        if asked[0].split(":")[0] != asked[1].split(":")[0] or really[0] != really[1]:
            told = [f"{a}, ran in {r}" if r else a for a, r in zip(asked, really, strict=True)]
            yield PrecisionMove(node=node, first=told[0], second=told[1])


def _ran_in(side: Side) -> dict[str, str]:
    """What each node ran in, by name, where that is known."""
    engines, seen = side.candidate.engines, side.candidate.ran
    nodes = engines[0].nodes if engines else seen.nodes if seen else ()
    return {node.node: node.ran for node in nodes if node.ran}


def _reads(side: Side) -> dict[str, tuple[str, ...]]:
    """The nodes that read INT8, by name, and the tensors that they read so."""
    found: dict[str, tuple[str, ...]] = {}
    record = side.result.calibration
    if side.candidate.precision is Precision.INT8:
        for activation in record.activations:
            for node in activation.consumers:
                found[node] = (*found.get(node, ()), activation.tensor)
        for weight in record.weights:
            found[weight.node] = (*found.get(weight.node, ()), weight.tensor)
    return found


def _asked(side: Side, node: str, tensors: set[str]) -> str:
    """int8, or float and why; the reason is that of a tensor that the other run quantizes."""
    if node in _reads(side):
        return "int8"
    reasons = (r.reason for r in side.result.calibration.left_alone if r.tensor in tensors)
    return f"float: {next(reasons, 'no longer there, or not to be quantized')}"
