"""Latency of several engines, taken in turns on the same inputs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import quantile_test

from calib.analysis.conditions import drift_pct
from calib.backends.base import Engine, TimedEngine
from calib.results import LatencyRecord
from data_loaders.types import Array

LEVEL = 0.95
STEADY_WINDOW = 5
"""Runs whose median is held against that of as many runs before."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """Runs before the first that counts, and whether the latency was steady after them.

    Attributes:
        runs: of this engine.
        steady: None if they were too few to tell.
    """

    runs: int
    steady: bool | None


def warm_up(
    engines: Mapping[str, Engine],
    inputs: Mapping[str, Array],
    *,
    runs_min: int,
    runs_max: int,
    seconds_max: float,
    tolerance_pct: float,
) -> dict[str, Warmup]:
    """Run the engines in turns until the latency of each has been steady.

    It is steady when the medians of the last STEADY_WINDOW runs and of as many before differ by no
    more than the tolerance.

    Args:
        engines: engine by candidate name.
        inputs: one batch, array by input name.
        runs_min: runs of each engine in any case.
        runs_max: it ends after as many, steady or not; twice the window if that is more.
        seconds_max: no further round starts after this long, in seconds, once there are runs_min.
        tolerance_pct: in per cent of the earlier median.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    steady: set[str] = set()
    deadline = time.perf_counter() + seconds_max
    for done, latencies in enumerate(_rounds(engines, inputs), start=1):
        for name, value in latencies.items():
            times[name].append(value)
        steady |= {name for name in engines if _is_steady(times[name], tolerance_pct)}
        ended = len(steady) == len(engines) or time.perf_counter() > deadline
        if done >= runs_min and (ended or done >= max(runs_max, 2 * STEADY_WINDOW)):
            break
    return {
        name: Warmup(len(values), _answer(name in steady, len(values)))
        for name, values in times.items()
    }


def _answer(steady: bool, runs: int) -> bool | None:
    return steady if runs >= 2 * STEADY_WINDOW else None


def _is_steady(times_ms: Sequence[float], tolerance_pct: float) -> bool:
    if len(times_ms) < 2 * STEADY_WINDOW:
        return False
    recent = float(np.median(times_ms[-STEADY_WINDOW:]))
    before = float(np.median(times_ms[-2 * STEADY_WINDOW : -STEADY_WINDOW]))
    return abs(recent - before) <= tolerance_pct / 100 * before


def time_engines(
    engines: Mapping[str, Engine],
    inputs: Mapping[str, Array],
    *,
    runs: int,
    seconds_max: float,
    on_run: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[float, ...]]:
    """Latency samples of each engine, in milliseconds, on a monotonic clock or the device's.

    The engines take turns, and the order turns round with each round: whatever else the machine
    does, it does to all of them. Every engine has the same number of samples, at least one, at
    most `runs`.

    Args:
        engines: engine by candidate name; see `warm_up`.
        inputs: one batch, array by input name.
        runs: timed runs of each engine.
        seconds_max: no further round starts after this long, in seconds.
        on_run: called with the number of timed runs of all engines done since the last call.
    """
    samples: dict[str, list[float]] = {name: [] for name in engines}
    deadline = time.perf_counter() + seconds_max
    for done, latencies in enumerate(_rounds(engines, inputs), start=1):
        for name, value in latencies.items():
            samples[name].append(value)
        on_run(len(latencies))
        if done >= runs or time.perf_counter() > deadline:
            break
    return {name: tuple(values) for name, values in samples.items()}


def _rounds(
    engines: Mapping[str, Engine], inputs: Mapping[str, Array]
) -> Iterator[dict[str, float]]:
    """Round after round, without end: latency in milliseconds by name."""
    order = list(engines)
    while True:
        yield {name: _latency_ms(engines[name], inputs) for name in order}
        order = order[1:] + order[:1]


def _latency_ms(engine: Engine, inputs: Mapping[str, Array]) -> float:
    if isinstance(engine, TimedEngine):
        return engine.timed_infer(inputs)
    begin = time.perf_counter_ns()
    engine.infer(inputs)
    return (time.perf_counter_ns() - begin) / 1e6


def latency_record(
    samples_ms: Sequence[float],
    inputs: Mapping[str, Array],
    warmup: Warmup,
    batch_size: int,
    threads: int | None = None,
) -> LatencyRecord:
    """Summarise the latency samples of one engine at one operating point.

    Percentiles interpolate linearly between samples. A percentile q asks for 1 / (1 - q) runs: 10
    for p90, 100 for p99. With fewer it would only be the maximum under another name. The median's
    interval is that of order statistics, by the binomial distribution (W. J. Conover, Practical
    Nonparametric Statistics, 3rd ed., 1999, section 3.2).
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    p50 = float(np.median(values))
    interval = quantile_test(values, p=0.5).confidence_interval(LEVEL)
    return LatencyRecord(
        batch_size=batch_size,
        threads=threads,
        shapes={name: tuple(array.shape) for name, array in inputs.items()},
        warmup_runs=warmup.runs,
        steady=warmup.steady,
        runs=len(values),
        p50_ms=p50,
        p50_low_ms=None if np.isnan(interval.low) else float(interval.low),
        p50_high_ms=None if np.isnan(interval.high) else float(interval.high),
        p90_ms=_percentile(values, 900),
        p99_ms=_percentile(values, 990),
        p999_ms=_percentile(values, 999),
        mean_ms=float(values.mean()),
        samples_per_second=batch_size / p50 * 1e3,
        drift_pct=drift_pct(samples_ms),
        samples_ms=tuple(samples_ms),
    )


def _percentile(values: Array, per_mille: int) -> float | None:
    if len(values) * (1000 - per_mille) < 1000:
        return None
    return float(np.percentile(values, per_mille / 10))


def frontier(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Which of some (latency, throughput) points no other beats in both.

    Args:
        points: latency, the less the better, and throughput, the more the better.
    """
    best, found = -np.inf, []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            found.append(index)
    return frozenset(found)
