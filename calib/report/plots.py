"""Plots as SVG text: the same bytes for the same result, readable on light and on dark."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from calib.results import CandidateRecord, RemediesRecord, RunResult

_COLOURS = ("#3b76c4", "#c2642c", "#2f9a72", "#a05bb5", "#b3892b", "#c24a6a")
_GREY = "#808890"
_NAME_LENGTH = 40
_POINTS_MIN = 3
_LOG_FROM = 8
"""An axis whose values span more is logarithmic."""
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: Any = {
    "svg.hashsalt": "calib",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "text.color": _GREY,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def layers_plot(result: RunResult) -> str:
    """SQNR of each compared tensor in graph order, a line a candidate; empty without layers."""
    shown = [c for c in result.candidates if c.layers]
    if not shown:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes = figure.subplots()
        for index, candidate in enumerate(shown):
            values = [float("nan") if e.sqnr_db is None else e.sqnr_db for e in candidate.layers]
            axes.plot(values, lw=1.2, color=_colour(index), label=candidate.name)
        axes.set_xlabel("tensor, in graph order")
        axes.set_ylabel("SQNR (dB), higher is better")
        _finish(axes, len(shown))
        return _svg(figure, "Signal to quantization noise of every layer, by candidate")


def classes_plot(candidate: CandidateRecord) -> str:
    """Recall lost or won by class; empty without labels."""
    classes = candidate.score.classes if candidate.score is not None else ()
    if not classes:
        return ""
    ordered = sorted(classes, key=lambda c: c.recall_pct - c.reference_recall_pct, reverse=True)
    changes = [c.recall_pct - c.reference_recall_pct for c in ordered]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.6 + 0.22 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        colours = [_COLOURS[0] if change >= 0 else _COLOURS[1] for change in changes]
        axes.barh([_short(c.name) for c in ordered], changes, color=colours, height=0.7)
        axes.axvline(0, color=_GREY, lw=0.8)
        axes.set_xlabel(f"recall of {candidate.name} less FP32's, in points")
        return _svg(figure, f"Change of recall by class, {candidate.name}")


def floats_plot(remedies: RemediesRecord | None) -> str:
    """SQNR over the share of the work in INT8, of every choice measured; empty without a search."""
    trials = remedies.trials if remedies is not None else ()
    if len(trials) < _POINTS_MIN:
        return ""
    ordered = sorted(trials, key=lambda trial: trial.macs_int8_pct)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        axes = figure.subplots()
        for chosen, colour, label in ((False, _GREY, "measured"), (True, _COLOURS[1], "chosen")):
            points = [t for t in ordered if t.kept is chosen]
            work, sqnr = [t.macs_int8_pct for t in points], [t.sqnr_db for t in points]
            axes.scatter(work, sqnr, s=40 if chosen else 18, color=colour, label=label, zorder=2)
        axes.set_xlabel("multiply-accumulates in INT8 (%)")
        axes.set_ylabel("SQNR at the scores (dB)")
        _finish(axes, 2)
        return _svg(figure, "Accuracy over the share of the work in INT8")


def growth_plot(result: RunResult, calibrator: str | None) -> str:
    """Each threshold over the samples, as a share of where it ended; the worst ones by name."""
    samples = result.calibration.part_samples
    grown = {
        a.tensor: [value / a.growth[calibrator][-1] for value in a.growth[calibrator]]
        for a in result.calibration.activations
        if calibrator in a.growth
        and len(a.growth[calibrator]) == len(samples) > 1
        and a.growth[calibrator][-1] > 0
    }
    if not grown:
        return ""
    worst = sorted(grown, key=lambda name: -max(abs(v - 1) for v in grown[name]))[:3]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes = figure.subplots()
        for name, values in grown.items():
            if name not in worst:
                axes.plot(samples, values, lw=0.6, color=_GREY, alpha=0.5)
        for index, name in enumerate(worst):
            axes.plot(samples, grown[name], lw=1.4, color=_colour(index), label=_tail(name))
        axes.set_xlabel("calibration samples")
        axes.set_ylabel(f"{calibrator} threshold, of the last")
        _finish(axes, len(worst))
        return _svg(figure, f"Growth of every threshold over the samples, {calibrator}")


def latency_plot(result: RunResult) -> str:
    """Raw latencies at the first screen's operating point, a box a candidate; empty without."""
    timed = [(_marked(c), r) for c in result.candidates if (r := c.latency_at()) is not None]
    if not timed:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.7 + 0.34 * len(timed)), layout="constrained")
        axes = figure.subplots()
        line = {"color": _COLOURS[0]}
        enough = all(record.p90_ms is not None for _, record in timed)
        whiskers = "p10 and p90" if enough else "least and most: too few runs for more"
        axes.boxplot(
            [record.samples_ms for _, record in timed][::-1],
            orientation="horizontal",
            tick_labels=[name for name, _ in timed][::-1],
            whis=(10, 90) if enough else (0, 100),
            widths=0.5,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _GREY},
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": _COLOURS[1], "linewidth": 1.6},
        )
        axes.set_xlabel(f"latency in ms at {timed[0][1].point}; whiskers {whiskers}")
        return _svg(figure, "Latency of every timed run, by candidate")


def throughput_plot(result: RunResult) -> str:
    """Throughput over latency, a line a candidate and number of threads, a point a batch size.

    Empty with less than two operating points. What is emulated is grey.
    """
    timed = [c for c in result.candidates if len(c.latency) > 1]
    if not timed:
        return ""
    threads = sorted({r.threads or 0 for c in timed for r in c.latency})
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6, 4.4), layout="constrained")
        axes = figure.subplots()
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
        axes.grid(color=_GREY, alpha=0.25, lw=0.6)
        _throughput_legend(axes, timed, threads)
        return _svg(figure, "Latency against throughput, by candidate, threads and batch size")


def _throughput_line(
    axes: Any, candidate: CandidateRecord, index: int, threads: int, style: int
) -> None:
    records = sorted(
        (r for r in candidate.latency if (r.threads or 0) == threads), key=lambda r: r.batch_size
    )
    x, y = [r.p50_ms for r in records], [r.samples_per_second for r in records]
    look = _line_look(candidate, index)
    axes.plot(x, y, lw=1.3, ls=_LINES[style % len(_LINES)], **look)
    for record in (records[0], records[-1]) if records and not candidate.emulated else ():
        axes.annotate(
            str(record.batch_size),
            (record.p50_ms, record.samples_per_second),
            xytext=(5, -9),
            textcoords="offset points",
            fontsize=7.5,
        )


def _line_look(candidate: CandidateRecord, index: int) -> dict[str, Any]:
    colour = _GREY if candidate.emulated else _colour(index)
    shape = _MARKERS[index % len(_MARKERS)]
    return {"color": colour, "marker": shape, "ms": 5, "alpha": 0.6 if candidate.emulated else 1.0}


def _throughput_legend(axes: Any, timed: list[CandidateRecord], threads: list[int]) -> None:
    """Candidates by colour and shape; threads by the kind of line, where there are several."""
    shown = [
        Line2D(
            [],
            [],
            lw=0,
            label=_marked(c),
            **_line_look(c, i),
        )
        for i, c in enumerate(timed)
    ]
    if len(threads) > 1:
        shown += [
            Line2D(
                [],
                [],
                color=_GREY,
                ls=_LINES[i % len(_LINES)],
                label=f"{count} thread{'s' if count > 1 else ''}",
            )
            for i, count in enumerate(threads)
        ]
    axes.legend(
        handles=shown, ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )


def _label_log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _tail(name: str) -> str:
    """A tensor's name without its start: the end tells tensors apart."""
    return name if len(name) <= _NAME_LENGTH else f"…{name[-_NAME_LENGTH:]}"


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:31]}…"


def _marked(candidate: CandidateRecord) -> str:
    return f"{_short(candidate.name)}{' (emulated)' if candidate.emulated else ''}"


def _finish(axes: Any, entries: int) -> None:
    axes.grid(axis="y", color=_GREY, alpha=0.25, lw=0.6)
    axes.legend(ncols=min(entries, 5), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    label = f'<svg role="img" aria-label="{title}" '
    return label + text[text.index("<svg ") + len("<svg ") :]
