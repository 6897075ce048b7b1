"""Latency of several engines, taken in turns on the same inputs."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calib.backends.base import Engine, TimedEngine
from calib.results import LatencyRecord
from data_loaders.types import Array

_RUNS_FOR_P99 = 100


def time_engines(
    engines: Mapping[str, Engine],
    inputs: Mapping[str, Array],
    *,
    warmup_runs: int,
    runs: int,
    seconds_max: float,
    on_run: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[float, ...]]:
    """Latency samples of each engine, in milliseconds, on a monotonic clock or the device's.

    The engines take turns, and the order turns round with each round: whatever else the machine
    does, it does to all of them. Warm-up runs are not kept. Every engine has the same number of
    samples, at least one, at most `runs`.

    Args:
        engines: engine by candidate name.
        inputs: one batch, array by input name.
        warmup_runs: untimed runs of each engine before the first timed one.
        runs: timed runs of each engine.
        seconds_max: no further round starts after this long, in seconds.
        on_run: called with the number of timed runs of all engines done since the last call.
    """
    for engine in engines.values():
        for _ in range(warmup_runs):
            engine.infer(inputs)
    samples: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    deadline = time.perf_counter() + seconds_max
    for _ in range(runs):
        for name in order:
            samples[name].append(_latency_ms(engines[name], inputs))
        order = order[1:] + order[:1]
        on_run(len(order))
        if time.perf_counter() > deadline:
            break
    return {name: tuple(values) for name, values in samples.items()}


def _latency_ms(engine: Engine, inputs: Mapping[str, Array]) -> float:
    if isinstance(engine, TimedEngine):
        return engine.timed_infer(inputs)
    begin = time.perf_counter_ns()
    engine.infer(inputs)
    return (time.perf_counter_ns() - begin) / 1e6


def latency_record(
    samples_ms: Sequence[float],
    inputs: Mapping[str, Array],
    warmup_runs: int,
    batch_size: int,
) -> LatencyRecord:
    """Summarise the latency samples of one engine at one batch size.

    Percentiles interpolate linearly between samples. The 99th is left out below 100 runs, where
    it would only be the maximum under another name.
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    p50, p90, p99 = (float(np.percentile(values, q)) for q in (50, 90, 99))
    return LatencyRecord(
        batch_size=batch_size,
        shapes={name: tuple(array.shape) for name, array in inputs.items()},
        warmup_runs=warmup_runs,
        runs=len(values),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99 if len(values) >= _RUNS_FOR_P99 else None,
        mean_ms=float(values.mean()),
        samples_per_second=batch_size / p50 * 1e3,
        samples_ms=tuple(samples_ms),
    )
