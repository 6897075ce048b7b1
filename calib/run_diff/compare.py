"""Two finished runs side by side: what can be compared, with paired intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ConfigError
from calib.results import (
    CandidateRecord,
    MetricChange,
    Outcome,
    PrecisionMove,
    RunComparison,
    RunResult,
    ScaleMove,
    TailChange,
    TaskKind,
    Verdict,
)
from calib.run_diff.config_diff import differences
from calib.run_diff.paired import paired_difference
from calib.run_diff.summary import chosen_candidate, machine_of, metric_of, summarise

COLUMNS = ["id", "rank", "label", "prediction", "margin", "margin_loss", "flip"]
_TAIL_SHARE = 0.01
_TAIL_MIN = 10
_SHOWN = 50
_MOVED = 0.01

SampleColumns = Mapping[str, Sequence[Any]]
"""`COLUMNS` of one candidate's samples, in any order."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One run: its record, the candidate that is looked at, and its samples by id."""

    result: RunResult
    candidate: CandidateRecord
    samples: Mapping[str, Mapping[str, Any]]


def compare_runs(
    first: RunResult,
    second: RunResult,
    samples: tuple[Mapping[str, SampleColumns], Mapping[str, SampleColumns]],
    candidate: str | None = None,
) -> RunComparison:
    """What changed from the first run to the second.

    Metrics get an interval where both runs judged the same validation samples; speed is compared
    on equal machines only. The outcome is `worse` where the interval of the task's metric lies
    wholly on the bad side, or the verdict was PASS and is no longer.

    Args:
        first: the run that is known.
        second: the run in question.
        samples: of each run, by candidate: `COLUMNS`.
        candidate: its name in both; what each verdict speaks of if None.

    Raises:
        ConfigError: if a run has no such candidate.
    """
    sides = [
        _side(result, own, candidate) for result, own in zip((first, second), samples, strict=True)
    ]
    own, other = sides
    notes = list(_not_compared(own, other))
    metrics = (*_metrics(own, other), *_speed(own, other))
    tail = _new_tail(own, other) if _same_data(own, other) else []
    outcome, reason = _outcome(own, other, metrics)
    rows = summarise((first, second))
    return RunComparison(
        outcome=outcome,
        reason=reason,
        first=rows[0],
        second=rows[1],
        unlike=tuple(differences(first, second)),
        not_compared=tuple(notes),
        metrics=metrics,
        tail=tuple(tail[:_SHOWN]),
        tail_count=len(tail),
        scales=tuple(_scales(own, other)),
        precisions=tuple(_precisions(own, other)),
    )


def _side(result: RunResult, samples: Mapping[str, SampleColumns], candidate: str | None) -> _Side:
    names = [c.name for c in result.candidates]
    if candidate is not None and candidate not in names:
        raise ConfigError(
            "--candidate",
            f"is not in run {result.run_id}",
            got=candidate,
            expected=", ".join(names),
        )
    own = result.candidate(candidate) if candidate else chosen_candidate(result)
    if own is None:
        raise ConfigError(
            f"run {result.run_id}",
            "has no INT8 candidate",
            expected=", ".join(names),
            fix="Name one with --candidate.",
        )
    given = samples.get(own.name, {})
    columns = given if {*COLUMNS} <= {*given} else {}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _Side(result, own, {str(row["id"]): row for row in rows})


def _same_data(own: _Side, other: _Side) -> bool:
    same = own.result.data.validation.sha256 == other.result.data.validation.sha256
    return same and bool(own.samples) and own.samples.keys() == other.samples.keys()


def _not_compared(own: _Side, other: _Side) -> Iterator[str]:
    if own.result.data.validation.sha256 != other.result.data.validation.sha256:
        yield "accuracy and tails: the runs judged other validation samples"
    elif not own.samples or not other.samples:
        yield "accuracy and tails: a run has no samples.parquet"
    elif own.samples.keys() != other.samples.keys():
        yield "accuracy and tails: the samples.parquet files hold other samples"
    if machine_of(own.result) != machine_of(other.result):
        yield "speed: the machine, the backend or its packages are not the same"
    if own.candidate.emulated or other.candidate.emulated:
        yield "speed: a precision was emulated"
    kinds = [s.candidate.score.kind if s.candidate.score else None for s in (own, other)]
    if kinds[0] != kinds[1]:
        yield "the task's metric: the runs have other tasks"


def _metrics(own: _Side, other: _Side) -> Iterator[MetricChange]:
    first, second = metric_of(own.candidate), metric_of(other.candidate)
    if first[0] and first[0] == second[0]:
        values = _task_values(own, other) if _same_data(own, other) else None
        lower = first[0] == "mean absolute error"
        scale, unit = (100.0, "points") if first[0] == "accuracy" else (1.0, "")
        yield _change(first[0], unit, (first[1], second[1]), values, scale, lower=lower)
    if not _same_data(own, other):
        return
    for name, is_counted in (("flips", _is_flip), ("worsened", _is_worsened)):
        values = tuple(
            np.array([float(is_counted(row)) for row in _rows(side, own)]) for side in (own, other)
        )
        means = tuple(100 * float(v.mean()) for v in values)
        yield _change(name, "% of the samples", means, values, 100.0, lower=True)
    losses = tuple(
        np.array([float(row["margin_loss"]) for row in _rows(side, own)]) for side in (own, other)
    )
    if all(np.isfinite(v).all() for v in losses):
        means = tuple(float(v.mean()) for v in losses)
        yield _change("mean loss of margin", "", means, losses, 1.0, lower=True)


def _is_flip(row: Mapping[str, Any]) -> bool:
    return bool(row["flip"])


def _is_worsened(row: Mapping[str, Any]) -> bool:
    return bool(row["flip"] == "worsened")


def _rows(side: _Side, order: _Side) -> list[Mapping[str, Any]]:
    return [side.samples[name] for name in order.samples]


def _task_values(own: _Side, other: _Side) -> tuple[NDArray[np.float64], ...] | None:
    """What the task's metric is the mean of, in both runs; None where it is unknown."""
    kind = own.candidate.score.kind if own.candidate.score else None
    pairs = list(zip(_rows(own, own), _rows(other, own), strict=True))
    if kind is TaskKind.CLASSIFICATION:
        labelled = [(a, b) for a, b in pairs if a["label"] is not None and a["label"] == b["label"]]
        found = [[row["prediction"] == row["label"] for row in pair] for pair in labelled]
    elif kind is TaskKind.REGRESSION:
        found = [[-a["margin"], -b["margin"]] for a, b in pairs if a["label"] is not None]
    else:
        found = [[a["margin"], b["margin"]] for a, b in pairs]
    if not found:
        return None
    table = np.array(found, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _change(
    name: str,
    unit: str,
    figures: tuple[float | None, ...],
    values: tuple[NDArray[np.float64], ...] | None,
    scale: float,
    *,
    lower: bool,
) -> MetricChange:
    found = paired_difference(values[0], values[1]) if values is not None else None
    return MetricChange(
        name=name,
        unit=unit,
        first=figures[0],
        second=figures[1],
        difference=scale * found.value if found else None,
        low=scale * found.low if found else None,
        high=scale * found.high if found else None,
        p_value=found.p_value if found else None,
        samples=len(values[0]) if values is not None else 0,
        lower_is_better=lower,
    )


def _speed(own: _Side, other: _Side) -> Iterator[MetricChange]:
    """Median latencies at the operating points that both have, on equal machines."""
    unlike = machine_of(own.result) != machine_of(other.result)
    if unlike or own.candidate.emulated or other.candidate.emulated:
        return
    known = {r.point: r for r in other.candidate.latency}
    for record in own.candidate.latency:
        rival = known.get(record.point)
        if rival is not None:
            yield MetricChange(
                name=f"median latency at {record.point}",
                unit="ms",
                first=record.p50_ms,
                second=rival.p50_ms,
                difference=rival.p50_ms - record.p50_ms,
                samples=min(record.runs, rival.runs),
                lower_is_better=True,
            )


def _new_tail(own: _Side, other: _Side) -> list[TailChange]:
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


def _scales(own: _Side, other: _Side) -> list[ScaleMove]:
    first, second = (_amax(side) for side in (own, other))
    moves = [
        ScaleMove(tensor=name, first=first.get(name), second=second.get(name))
        for name in dict.fromkeys([*first, *second])
    ]
    return sorted((m for m in moves if _moved(m)), key=lambda m: -_size(m))


def _amax(side: _Side) -> dict[str, float]:
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


def _precisions(own: _Side, other: _Side) -> Iterator[PrecisionMove]:
    first, second = (_ran_in(side) for side in (own, other))
    for node in dict.fromkeys([*first, *second]):
        before, after = first.get(node, "not in it"), second.get(node, "not in it")
        if before.split(":")[0] != after.split(":")[0]:
            yield PrecisionMove(node=node, first=before, second=after)


def _ran_in(side: _Side) -> dict[str, str]:
    """What each node of weights or INT8 inputs runs in: what the engine says, or was asked for."""
    record = side.result.calibration
    found = {r.node: f"float: {r.reason}" for r in record.left_alone if r.node}
    for activation in record.activations:
        found |= dict.fromkeys(activation.consumers, "int8")
    found |= {weight.node: "int8" for weight in record.weights}
    for engine in side.candidate.engines[:1]:
        found |= {node.node: node.ran for node in engine.nodes if node.ran}
    return found


def _outcome(own: _Side, other: _Side, metrics: tuple[MetricChange, ...]) -> tuple[Outcome, str]:
    verdicts = [side.result.verdict.verdict for side in (own, other)]
    if verdicts[0] is Verdict.PASS and verdicts[1] is not Verdict.PASS:
        return Outcome.WORSE, f"The verdict was PASS and is {verdicts[1].value.replace('_', ' ')}."
    main = next((m for m in metrics if m.difference is not None and m.low is not None), None)
    if main is None or main.low is None or main.high is None:
        return Outcome.NO_EVIDENCE, "The runs share no validation samples to compare them by."
    told = (
        f"{main.name} changed by {main.difference:+.3g} {main.unit}".rstrip()
        + f", 95 % interval {main.low:+.3g} to {main.high:+.3g}, on {main.samples:,} samples"
    )
    if main.is_worse:
        return Outcome.WORSE, f"{told}: worse by more than chance."
    return Outcome.NO_WORSE, f"{told}: no worse by more than chance."
