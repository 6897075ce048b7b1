"""The part on speed: tables, plots, CSV files, and what spoilt the figures."""

from pathlib import Path
from typing import Any

import pandas as pd

from calib.advice import speedup_over
from calib.analysis.speedup import Speedup
from calib.analysis.throughput import frontier
from calib.report.speed_plots import latency_plot, throughput_plot
from calib.results import CandidateRecord, LatencyRecord, Precision, RunResult

_RUN_COLUMNS = ["candidate", "batch_size", "threads", "run", "latency_ms"]


def speed_section(result: RunResult) -> dict[str, Any]:
    """What the section on speed draws."""
    timed = result.reference.latency_at()
    on_frontier = frontier_points(result)
    return {
        "point": timed.point if timed is not None else "",
        "runs": timed.runs if timed is not None else 0,
        "warnings": result.speed.warnings if result.speed is not None else (),
        "engines": [_engine_row(result, c) for c in result.candidates],
        "points": [
            {**_point_row(result, c, r), "best": (c.name, r.batch_size, r.threads) in on_frontier}
            for c in result.candidates
            for r in c.latency
        ],
        "loads": result.speed.points if result.speed is not None else (),
        "plots": {
            "latency": latency_plot(result),
            "throughput": throughput_plot(result),
        },
    }


def frontier_points(result: RunResult) -> frozenset[tuple[str, int, int | None]]:
    """(candidate, batch size, threads) that no other beats in both latency and throughput.

    What is emulated beats nothing, and is not beaten.
    """
    timed = [(c.name, r) for c in result.candidates if not c.emulated for r in c.latency]
    best = frontier([(r.p50_ms, r.samples_per_second) for _, r in timed])
    return frozenset((timed[i][0], timed[i][1].batch_size, timed[i][1].threads) for i in best)


def _engine_row(result: RunResult, candidate: CandidateRecord) -> dict[str, Any]:
    """One candidate at the operating point of the first screen."""
    record = candidate.latency_at()
    return {
        "name": candidate.name,
        "emulated": candidate.emulated,
        "record": record,
        "fp32": _over(result, candidate, Precision.FP32, record),
        "fp16": _over(result, candidate, Precision.FP16, record),
        "size_mb": candidate.size_bytes / 1e6,
        "load_ms": None if candidate.load_seconds is None else candidate.load_seconds * 1e3,
        "peak_mb": None
        if candidate.peak_memory_bytes is None
        else candidate.peak_memory_bytes / 1e6,
    }


def _point_row(
    result: RunResult, candidate: CandidateRecord, record: LatencyRecord
) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "emulated": candidate.emulated,
        "record": record,
        "fp32": _over(result, candidate, Precision.FP32, record),
    }


def _over(
    result: RunResult, candidate: CandidateRecord, rival: Precision, record: LatencyRecord | None
) -> Speedup | None:
    if record is None or candidate.precision is rival:
        return None
    return speedup_over(result, candidate.name, rival.value, record.batch_size, record.threads)


def write_speed_csv(result: RunResult, path: Path) -> None:
    """A line for each candidate and operating point: what was found there."""
    rows = []
    for candidate in result.candidates:
        for record in candidate.latency:
            found = _over(result, candidate, Precision.FP32, record)
            rows.append(
                {
                    "candidate": candidate.name,
                    "emulated": candidate.emulated,
                    **record.model_dump(exclude={"shapes", "samples_ms"}),
                    "speedup_vs_fp32": found.ratio if found else None,
                    "speedup_vs_fp32_low": found.low if found else None,
                    "speedup_vs_fp32_high": found.high if found else None,
                    "size_bytes": candidate.size_bytes,
                    "load_seconds": candidate.load_seconds,
                    "peak_memory_bytes": candidate.peak_memory_bytes,
                }
            )
    columns = None if rows else ["candidate"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def write_throughput_csv(result: RunResult, path: Path) -> None:
    """A line for each timed run: candidate, operating point, number of the run, latency."""
    rows = [
        (candidate.name, record.batch_size, record.threads, run, value)
        for candidate in result.candidates
        for record in candidate.latency
        for run, value in enumerate(record.samples_ms)
    ]
    pd.DataFrame(rows, columns=_RUN_COLUMNS).to_csv(path, index=False)
