"""A comparison of two runs, and a history of many, as pages."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from calib.report.plain import plain_page
from calib.report.svg import svg_for_page
from calib.results import History, RunComparison, RunSummary
from calib.store import write_atomically

_COLOURS = ("#3b76c4", "#c2642c", "#2f9a72", "#a05bb5", "#b3892b", "#c24a6a")
_STYLES = ("report.css", "run_pages.css")
_MARKERS = "osD^vP"
_GREY = "#808890"
_STYLE: Any = {
    "svg.hashsalt": "calib",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "text.color": _GREY,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_comparison(found: RunComparison, path: Path) -> None:
    """One self-contained page; whatever the runs carry is escaped.

    Raises:
        StoreError: if the file cannot be written.
    """
    write_atomically(path, plain_page("run_compare.html", _STYLES, found=found))


def write_history(found: History, path: Path) -> None:
    """One self-contained page with a trend of each figure.

    Raises:
        StoreError: if the file cannot be written.
    """
    write_atomically(
        path, plain_page("run_history.html", _STYLES, found=found, plot=trend_plot(found))
    )


def trend_plot(found: History) -> Markup:
    """The task's metric, flips and latency over the runs; a line joins what is comparable.

    Metrics are comparable on one model and the same validation samples, latencies on one machine.
    """
    panels = [
        (title, rows, keys)
        for title, rows, keys in (
            (_metric_title(found), _points(found, "value"), "model data"),
            ("predictions unlike FP32's (%)", _points(found, "flips_pct"), "model data"),
            ("median latency (ms)", _points(found, "p50_ms"), "machine"),
        )
        if rows
    ]
    if not panels:
        return Markup("")
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.2 * len(panels)), layout="constrained")
        all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, rows, keys) in zip(all_axes, panels, strict=True):
            groups: dict[str, list[tuple[datetime, float]]] = {}
            for run, value in rows:
                label = ", ".join(f"{key} {getattr(run, key)}" for key in keys.split())
                groups.setdefault(label, []).append((_when(run), value))
            for index, (label, points) in enumerate(groups.items()):
                axes.plot(
                    *zip(*points, strict=True),
                    color=_COLOURS[index % len(_COLOURS)],
                    marker=_MARKERS[index % len(_MARKERS)],
                    ms=5,
                    lw=1.2,
                    label=label,
                )
            axes.set_ylabel(title)
            axes.legend(frameon=False, fontsize=8)
        figure.autofmt_xdate()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return svg_for_page(buffer.getvalue(), "Trend over the runs")


def _metric_title(found: History) -> str:
    names = {run.metric for run in found.runs if run.metric}
    if len(names) != 1:
        return "task metric"
    (name,) = names
    return f"{name} (%)" if name == "accuracy" else name


def _points(found: History, field: str) -> list[tuple[RunSummary, float]]:
    values = ((run, getattr(run, field)) for run in found.runs)
    return [(run, value) for run, value in values if value is not None]


def _when(run: RunSummary) -> datetime:
    return datetime.fromisoformat(run.started_at)
