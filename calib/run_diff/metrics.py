"""Figures of two runs, with paired intervals where the samples are the same."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.results import MetricChange, TaskKind
from calib.run_diff.paired import paired_difference
from calib.run_diff.side import Side, same_data
from calib.run_diff.summary import machine_of, metric_of


def metric_changes(own: Side, other: Side) -> Iterator[MetricChange]:
    """The task's metric, flips, and the loss of margin."""
    first, second = metric_of(own.candidate), metric_of(other.candidate)
    if first.name and first.name == second.name:
        paired = same_data(own, other)
        values = _task_values(own, other) if paired and first.is_mean else None
        scale = 100.0 if first.name == "accuracy" else 1.0
        figures = (first.value, second.value)
        lower = first.lower_is_better
        yield _change(first.name, first.unit, figures, values, scale, lower=lower)
        scores = _scores(own, other) if paired and not first.is_mean else None
        if scores is not None:
            means = tuple(float(v.mean()) for v in scores)
            yield _change("mean score of a sample", "", means, scores, 1.0, lower=False)
    if not same_data(own, other):
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


def _rows(side: Side, order: Side) -> list[Mapping[str, Any]]:
    return [side.samples[name] for name in order.samples]


def _task_values(own: Side, other: Side) -> tuple[NDArray[np.float64], ...] | None:
    """What the task's metric is the mean of, in both runs; None where it is unknown."""
    kind = own.candidate.score.kind if own.candidate.score else None
    if kind is TaskKind.EMBEDDING:
        return _scores(own, other)
    pairs = list(zip(_rows(own, own), _rows(other, own), strict=True))
    if kind is TaskKind.CLASSIFICATION:
        labelled = [(a, b) for a, b in pairs if a["label"] is not None and a["label"] == b["label"]]
        found = [[row["prediction"] == row["label"] for row in pair] for pair in labelled]
    else:
        found = [[-a["margin"], -b["margin"]] for a, b in pairs if a["label"] is not None]
    if not found:
        return None
    table = np.array(found, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _scores(own: Side, other: Side) -> tuple[NDArray[np.float64], ...] | None:
    """Each sample's score in both runs, higher is better; None where one is not finite."""
    found = tuple(
        np.array([float(row["margin"]) for row in _rows(side, own)]) for side in (own, other)
    )
    return found if all(np.isfinite(v).all() for v in found) else None


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


def speed_changes(own: Side, other: Side) -> Iterator[MetricChange]:
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
