"""Whether the machine let engines be timed: drift, throttling, other load; said in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy.stats import kendalltau

from calib.backends.machine_state import MachineState
from calib.results import LatencyRecord, LoadRecord, PointRecord

_ROUNDS_MIN = 10
_CHANCE = 0.01
_DRIFT_PCT = 5.0
_SECONDS_MIN = 0.5
"""The system counts in hundredths of a second: what is shorter bears no share of cores."""
_OTHERS = 0.1
_STOLEN = 0.05
_THROTTLED = 0.01
_CLOCK = 0.05
_PREEMPTIONS = 50
"""A second and processor: a process alone has a few."""
_SHOWN = 4

N = TypeVar("N", int, float)


def drift_pct(samples_ms: Sequence[float]) -> float | None:
    """How much the latency changed over the rounds, in per cent; None without a trend.

    A trend is one that Mann and Kendall's test tells from chance at 1 % (H. B. Mann,
    Nonparametric Tests Against Trend, Econometrica 13, 1945). Its size is the median of the last
    third of the samples over the first third's, less 1.
    """
    if len(samples_ms) < _ROUNDS_MIN:
        return None
    values = np.asarray(samples_ms, dtype=np.float64)
    if not kendalltau(np.arange(len(values)), values).pvalue < _CHANCE:  # NaN: all are equal
        return None
    third = len(values) // 3
    return 100 * (float(np.median(values[-third:]) / np.median(values[:third])) - 1)


def load_between(before: MachineState, after: MachineState) -> LoadRecord:
    """What the machine did from one reading to the next."""
    seconds = max(after.monotonic_seconds - before.monotonic_seconds, 1e-9)
    own = after.own_seconds - before.own_seconds
    busy, stolen = (
        None if a is None or b is None else max(b - a, 0.0)
        for a, b in (
            (before.busy_seconds, after.busy_seconds),
            (before.stolen_seconds, after.stolen_seconds),
        )
    )
    if busy is not None and busy < own / 2:
        busy = stolen = None  # a sandbox's own count, which does not even hold this process
    clocks = (before.clock_mhz, after.clock_mhz)
    return LoadRecord(
        seconds=seconds,
        cores=after.cores,
        own_cores=own / seconds,
        other_cores=None if busy is None else max(busy - own, 0.0) / seconds,
        stolen_cores=None if stolen is None else stolen / seconds,
        preemptions=after.preemptions - before.preemptions,
        throttled_seconds=_difference(before.throttled_seconds, after.throttled_seconds),
        heat_events=_difference(before.heat_events, after.heat_events),
        clock_mhz=None if clocks[0] is None or clocks[1] is None else (clocks[0], clocks[1]),
    )


def _difference(before: N | None, after: N | None) -> N | None:
    return None if before is None or after is None else after - before


def speed_warnings(
    points: Sequence[PointRecord], latency: Mapping[str, Sequence[LatencyRecord]]
) -> tuple[str, ...]:
    """What the reader of latencies should know of how they came about, a sentence each.

    Args:
        points: the operating points, each with the load while it was timed.
        latency: of every candidate, at each of them.
    """
    return (*_load_warnings(points), *_warmup_warnings(latency), *_drift_warnings(latency))


def _load_warnings(points: Sequence[PointRecord]) -> Iterator[str]:
    """One a kind of load: that of the point where it is worst."""
    worst: dict[str, tuple[float, str, PointRecord]] = {}
    for point in points:
        for kind, size, text in _loads(point):
            if kind not in worst or size > worst[kind][0]:
                worst[kind] = (size, text, point)
    for _, text, point in worst.values():
        yield text.format(while_=f"while {_name(point)} was timed")


def _loads(point: PointRecord) -> Iterator[tuple[str, float, str]]:
    """(kind, size, sentence) of each load that is worth a word."""
    load = point.load
    if point.threads is not None and point.threads > load.cores:
        text = f"{point.threads} threads share {load.cores} processors: no more may be used here"
        yield "threads", point.threads, text
    if load.seconds >= _SECONDS_MIN:
        yield from _shares(load)
    if load.heat_events:
        text = f"the processor slowed itself down for heat {load.heat_events} times {{while_}}"
        yield "heat", load.heat_events, f"{text}: cool it, or lock its clock, and repeat"
    if load.clock_mhz is not None:
        before, after = load.clock_mhz
        moved = abs(after / before - 1) if before else 0.0
        if moved > _CLOCK:
            text = f"the processor's clock moved from {before:.0f} to {after:.0f} MHz {{while_}}"
            yield "clock", moved, f"{text}: lock it, and repeat"


def _shares(load: LoadRecord) -> Iterator[tuple[str, float, str]]:
    others, stolen = load.other_cores, load.stolen_cores
    if others is not None and others > _OTHERS * load.cores:
        text = f"other processes used {others:.1f} of {load.cores} processors {{while_}}"
        yield "others", others, f"{text}: repeat on a quiet machine"
    if stolen is not None and stolen > _STOLEN * load.cores:
        text = f"the hypervisor gave {stolen:.1f} of {load.cores} processors to others {{while_}}"
        yield "stolen", stolen, f"{text}: repeat on a machine of its own"
    rate = (load.preemptions or 0) / load.seconds / load.cores
    if others is None and rate > _PREEMPTIONS:
        text = f"this process was interrupted {rate:.0f} times a second and processor {{while_}}"
        yield "preempted", rate, f"{text}: others want it, too; repeat on a quiet machine"
    held = load.throttled_seconds
    if held is not None and held > _THROTTLED * load.seconds:
        text = f"a CPU quota (cgroup) held this process back for {held:.1f} of {load.seconds:.1f} s"
        yield "quota", held, f"{text} {{while_}}: take fewer threads, or raise the quota"


def _name(point: PointRecord | LatencyRecord) -> str:
    if point.threads is None:
        return f"batch {point.batch_size}"
    return f"batch {point.batch_size} on {point.threads} thread{'s' if point.threads > 1 else ''}"


def _warmup_warnings(latency: Mapping[str, Sequence[LatencyRecord]]) -> Iterator[str]:
    moving = [(n, r) for n, records in latency.items() for r in records if r.steady is False]
    if moving:
        runs = max(record.warmup_runs for _, record in moving)
        yield (
            f"latency was still moving when the warm-up ended, after up to {runs} runs: "
            f"{_listed(moving)}; raise throughput.warmup_seconds_max, or find out what moves it"
        )
    short = [(n, r) for n, records in latency.items() for r in records if r.steady is None]
    if short:
        runs = min(record.warmup_runs for _, record in short)
        yield (
            f"warm-ups of {runs} runs are too short to tell whether latency was steady: "
            f"{_listed(short)}; raise throughput.warmup_seconds_max"
        )


def _drift_warnings(latency: Mapping[str, Sequence[LatencyRecord]]) -> Iterator[str]:
    for verb, sign in (("rose", 1), ("fell", -1)):
        found = [
            (name, record)
            for name, records in latency.items()
            for record in records
            if record.drift_pct is not None and sign * record.drift_pct > _DRIFT_PCT
        ]
        if found:
            most = max(abs(record.drift_pct or 0.0) for _, record in found)
            yield (
                f"latency {verb} from round to round, by up to {most:.0f} %: {_listed(found)}; "
                "ratios of the same rounds hold, milliseconds do not: repeat when it is steady"
            )


def _listed(found: Sequence[tuple[str, LatencyRecord]]) -> str:
    shown = [f"{name} at {_name(record)}" for name, record in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(shown) + more
