"""Latencies as they were timed, and the machine meanwhile."""

from typing import Any

from calib.analysis.speedup import Speedup
from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.speed import speed_section
from calib.report.words import NOTHING, number
from calib.results import LatencyRecord, PointRecord

_ENGINES = (
    Column("Candidate"),
    Column("p50, ms", numeric=True),
    Column("Samples/s", numeric=True),
    Column("vs FP32", numeric=True),
    Column("vs FP16", numeric=True),
    Column("Size, MB", numeric=True),
    Column("Load, ms", numeric=True),
    Column("Peak, MB", numeric=True),
)
_POINTS = (
    Column("Candidate", choice=True),
    Column("Batch", numeric=True),
    Column("Threads", numeric=True),
    Column("Runs", numeric=True),
    Column("p50, ms", numeric=True),
    Column("p90, ms", numeric=True),
    Column("p99, ms", numeric=True),
    Column("Mean, ms", numeric=True),
    Column("Samples/s", numeric=True),
    Column("vs FP32", numeric=True),
    Column("Warm-up", numeric=True),
    Column("Drift, %", numeric=True),
    Column("Best"),
)
_LOADS = (
    Column("Batch", numeric=True),
    Column("Threads", numeric=True),
    Column("Seconds", numeric=True),
    Column("Processors used", numeric=True),
    Column("by others", numeric=True),
    Column("by other machines", numeric=True),
    Column("Interrupted", numeric=True),
    Column("Held by quota, s", numeric=True),
    Column("Slowed for heat", numeric=True),
    Column("Clock, MHz", numeric=True),
)
_STEADY = {True: "", False: ", moving", None: ", ?"}


def context(page: Page) -> Context:
    """See `Section.context`."""
    speed = speed_section(page.result)
    chosen = page.result.verdict.chosen
    engines = tuple(_engine_row(e, e["name"] == chosen) for e in speed["engines"])
    points = tuple(_point_row(p) for p in speed["points"])
    loads = tuple(_load_row(p) for p in speed["loads"])
    caption = "Every operating point, the best marked"
    return {
        "speed": speed,
        "engines": Table("speed-table", f"At {speed['point']}", _ENGINES, engines),
        "points": Table("points-table", caption, _POINTS, points, interactive=True),
        "loads": Table("loads-table", "The machine while engines were timed", _LOADS, loads),
    }


def _engine_row(engine: dict[str, Any], is_chosen: bool) -> Row:
    record: LatencyRecord | None = engine["record"]
    return Row(
        mark="chosen" if is_chosen else "",
        cells=(
            _named(engine),
            Cell(NOTHING) if record is None else _median(record),
            figure(None if record is None else record.samples_per_second),
            _ratio(engine["fp32"]),
            _ratio(engine["fp16"]),
            figure(engine["size_mb"]),
            figure(engine["load_ms"], 3),
            figure(engine["peak_mb"], 3),
        ),
    )


def _named(engine: dict[str, Any]) -> Cell:
    return Cell(engine["name"], notes=("emulated",) if engine["emulated"] else ())


def _median(record: LatencyRecord) -> Cell:
    low, high = record.p50_low_ms, record.p50_high_ms
    notes = () if low is None or high is None else (f"{number(low, 3)}–{number(high, 3)}",)  # noqa: RUF001
    return Cell(number(record.p50_ms), record.p50_ms, notes=notes)


def _ratio(found: Speedup | None) -> Cell:
    if found is None:
        return Cell(NOTHING)
    low, high = found.low, found.high
    notes = () if low is None or high is None else (f"{low:.2f}–{high:.2f}",)  # noqa: RUF001
    return Cell(f"{found.ratio:.2f}×", found.ratio, notes=notes)  # noqa: RUF001


def _point_row(point: dict[str, Any]) -> Row:
    r: LatencyRecord = point["record"]
    return Row(
        mark="chosen" if point["best"] else "",
        cells=(
            _named(point),
            figure(r.batch_size),
            figure(r.threads),
            figure(r.runs, text=f"{r.runs:,}"),
            figure(r.p50_ms),
            figure(r.p90_ms),
            figure(r.p99_ms),
            figure(r.mean_ms),
            figure(r.samples_per_second),
            _ratio(point["fp32"]),
            Cell(f"{r.warmup_runs}{_STEADY[r.steady]}", r.warmup_runs),
            figure(r.drift_pct, 2),
            Cell("yes" if point["best"] else "no"),
        ),
    )


def _load_row(point: PointRecord) -> Row:
    load = point.load
    clock = (
        NOTHING if load.clock_mhz is None else f"{load.clock_mhz[0]:.0f}, {load.clock_mhz[1]:.0f}"
    )
    return Row(
        (
            figure(point.batch_size),
            figure(point.threads),
            fixed(load.seconds, "%.1f"),
            Cell(f"{load.own_cores:.2f} of {load.cores}", load.own_cores),
            figure(load.other_cores, 2),
            figure(load.stolen_cores, 2),
            figure(load.preemptions),
            figure(load.throttled_seconds, 2),
            figure(load.heat_events),
            Cell(clock),
        )
    )
