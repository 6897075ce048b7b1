"""The plots on speed."""

from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from calib.report.svg import DASHES, INK, MARKERS, SERIES, drawn, series_colour, shortened
from calib.results import CandidateRecord, RunResult

_LOG_FROM = 8
"""An axis whose values span more is logarithmic."""


def latency_plot(result: RunResult) -> Markup:
    """Raw latencies at the first screen's operating point, a box a candidate; empty without."""
    timed = [(c, r) for c in result.candidates if (r := c.latency_at()) is not None]
    if not timed:
        return Markup("")
    enough = all(record.p90_ms is not None for _, record in timed)
    whiskers = "p10 and p90" if enough else "least and most: too few runs for more"
    line = {"color": SERIES[0]}

    def draw(axes: Axes, narrow: bool) -> None:
        axes.boxplot(
            [record.samples_ms for _, record in timed][::-1],
            orientation="horizontal",
            tick_labels=[_marked(c, 18 if narrow else 40) for c, _ in timed][::-1],
            whis=(10, 90) if enough else (0, 100),
            widths=0.5,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": INK},
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": SERIES[1], "linewidth": 1.8},
        )
        split = "\n" if narrow else "; "
        axes.set_xlabel(f"ms at {timed[0][1].point}{split}whiskers {whiskers}")

    return drawn("Latency of every timed run, by candidate", 1 + 0.34 * len(timed), draw)


def throughput_plot(result: RunResult) -> Markup:
    """Throughput over latency, a line a candidate and number of threads, a point a batch size.

    Empty with less than two operating points. What is emulated is grey.
    """
    timed = [c for c in result.candidates if len(c.latency) > 1]
    if not timed:
        return Markup("")
    threads = sorted({r.threads or 0 for c in timed for r in c.latency})

    def draw(axes: Axes, narrow: bool) -> None:
        for index, candidate in enumerate(timed):
            for count in threads:
                _throughput_line(axes, candidate, index, count, threads.index(count))
        points = [(r.p50_ms, r.samples_per_second) for c in timed for r in c.latency]
        for values, scale in zip(zip(*points, strict=True), ("x", "y"), strict=True):
            if max(values) > _LOG_FROM * min(values):
                axes.set(**{f"{scale}scale": "log"})
                _label_log_axis(getattr(axes, f"{scale}axis"))
        axes.set_xlabel("median latency of a batch (ms)")
        axes.set_ylabel("samples a second")
        axes.grid(color=INK, alpha=0.25, lw=0.6)
        _throughput_legend(axes, timed, threads, narrow)

    title = "Latency against throughput, by candidate, threads and batch size"
    return drawn(title, 4.2, draw)


def _throughput_line(
    axes: Axes, candidate: CandidateRecord, index: int, threads: int, style: int
) -> None:
    records = sorted(
        (r for r in candidate.latency if (r.threads or 0) == threads), key=lambda r: r.batch_size
    )
    x, y = [r.p50_ms for r in records], [r.samples_per_second for r in records]
    look = _line_look(candidate, index)
    axes.plot(x, y, lw=1.3, ls=DASHES[style % len(DASHES)], **look)
    for record in (records[0], records[-1]) if records and not candidate.emulated else ():
        axes.annotate(
            str(record.batch_size),
            (record.p50_ms, record.samples_per_second),
            xytext=(5, -9),
            textcoords="offset points",
        )


def _line_look(candidate: CandidateRecord, index: int) -> dict[str, Any]:
    colour = INK if candidate.emulated else series_colour(index)
    shape = MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": shape, "ms": 5, "alpha": 0.6 if candidate.emulated else 1.0}


def _throughput_legend(
    axes: Axes, timed: list[CandidateRecord], threads: list[int], narrow: bool
) -> None:
    """Candidates by colour and shape; threads by the kind of line, where there are several."""
    length = 20 if narrow else 40
    shown = [
        Line2D([], [], lw=0, label=_marked(c, length), **_line_look(c, i))
        for i, c in enumerate(timed)
    ]
    if len(threads) > 1:
        shown += [
            Line2D(
                [],
                [],
                color=INK,
                ls=DASHES[i % len(DASHES)],
                label=f"{count} thread{'s' if count > 1 else ''}",
            )
            for i, count in enumerate(threads)
        ]
    axes.legend(
        handles=shown,
        ncols=1 if narrow else 3,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
    )


def _label_log_axis(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _marked(candidate: CandidateRecord, length: int) -> str:
    return f"{shortened(candidate.name, length)}{' (emulated)' if candidate.emulated else ''}"
