"""A sweep as a page, a table and JSON."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from calib.report.plain import plain_page
from calib.report.svg import INK, SERIES, drawn, shortened
from calib.report.tables import safe_text
from calib.results import SweepRecord, TrialRecord, Verdict
from calib.store import write_atomically

_STYLES = ("report.css", "run_pages.css")
_LOOKS = {
    Verdict.PASS: ("o", SERIES[2], "PASS"),
    Verdict.INCONCLUSIVE: ("^", SERIES[4], "INCONCLUSIVE"),
    Verdict.NO_EVIDENCE: ("D", SERIES[0], "NO EVIDENCE"),
    Verdict.FAIL: ("X", SERIES[1], "FAIL"),
}
"""Verdicts by shape and by colour: either alone tells them apart."""
_POINTS_AN_INCH, _AXES_SHARE, _LABEL_POINTS = 72, 0.85, 8.5
"""Of a figure the axes take about 0.85 each way: enough to keep labels apart."""
_COLUMNS = [name for name in TrialRecord.model_fields if name != "settings"]


def write_sweep(found: SweepRecord, folder: Path) -> None:
    """Write sweep.json, sweep.csv and sweep.html.

    Raises:
        StoreError: if a file cannot be written.
    """
    write_atomically(folder / "sweep.json", found.model_dump_json(indent=1))
    write_atomically(folder / "sweep.csv", sweep_csv(found))
    write_atomically(folder / "sweep.html", sweep_page(found))


def sweep_csv(found: SweepRecord) -> str:
    """A line a trial: its settings, a column each, then its figures."""
    rows = [
        {
            **{path: safe_text(text) for path, text in trial.settings.items()},
            **{
                name: safe_text(value) if isinstance(value, str) else value
                for name, value in trial.model_dump(exclude={"settings"}).items()
            },
        }
        for trial in found.trials
    ]
    frame = pd.DataFrame(rows)
    order = ["number", *found.space, *[name for name in _COLUMNS if name != "number"]]
    return str(frame[order].to_csv(index=False))


def sweep_page(found: SweepRecord) -> str:
    """One self-contained page; whatever the sweep carries is escaped."""
    return plain_page(
        "sweep.html",
        _STYLES,
        found=found,
        plot=pareto_plot(found),
        ordered=sorted(found.trials, key=_order),
        by_size=found.cost_title.startswith("size"),
        timed=[trial.seconds for trial in found.trials if trial.seconds is not None],
    )


def _order(trial: TrialRecord) -> tuple[bool, bool, float, int]:
    """The front first, then the faster."""
    cost = math.inf if trial.cost is None else trial.cost
    return not trial.on_front, trial.accuracy is None, cost, trial.number


def pareto_plot(found: SweepRecord) -> Markup:
    """Accuracy over speed, a point a trial; a line joins those that none surpasses.

    Empty if no trial has both figures.
    """
    shown = [t for t in found.trials if t.accuracy is not None and t.cost is not None]
    if not shown:
        return Markup("")
    front = [t for t in found.front if t in shown]

    def draw(axes: Axes, narrow: bool) -> None:
        _draw_front(axes, front)
        for verdict, (shape, colour, name) in _LOOKS.items():
            points = [t for t in shown if t.verdict is verdict]
            if points:
                axes.scatter(
                    [t.cost or 0.0 for t in points],
                    [t.accuracy or 0.0 for t in points],
                    marker=shape,
                    s=[52 if t.on_front else 26 for t in points],
                    facecolor=[colour if t.on_front else "none" for t in points],
                    edgecolor=colour,
                    linewidth=1.3,
                    zorder=3,
                    label=name,
                )
        if found.limit is not None:
            axes.axhline(found.limit, color=SERIES[1], ls="--", lw=1, label="limit")
        axes.margins(x=0.16 if narrow else 0.1, y=0.14)
        _label(axes, shown, found.limit, narrow)
        axes.set_xlabel(_axis_title(f"{found.cost_title} (left is better)", narrow))
        axes.set_ylabel(_axis_title(f"{found.accuracy_title} (down is better)", narrow))
        axes.grid(color=INK, alpha=0.25, lw=0.6)
        axes.legend(
            ncols=2 if narrow else 5,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderaxespad=0.2,
        )

    return drawn("Accuracy over speed of every trial, and the front of the best", 4.4, draw)


def _draw_front(axes: Axes, front: list[TrialRecord]) -> None:
    """Steps: whatever lies right of and above them is surpassed."""
    if len(front) > 1:
        x: Any = [t.cost for t in front]
        y: Any = [t.accuracy for t in front]
        axes.step(x, y, where="post", color=INK, lw=1.2, zorder=2, label="front")


def _label(axes: Axes, shown: list[TrialRecord], limit: float | None, narrow: bool) -> None:
    """The front's trials by number, and by what differs where there is room.

    Each label stands at the first corner of its point where it covers no point, no other label and
    not the limit.
    """
    figure: Any = axes.figure
    width, height = figure.get_size_inches() * _POINTS_AN_INCH * _AXES_SHARE
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places = {
        t.number: (
            ((t.cost or 0.0) - left) / (right - left) * width,
            ((t.accuracy or 0.0) - low) / (high - low) * height,
        )
        for t in shown
    }
    taken = [_Box(x - 4, y - 4, x + 4, y + 4) for x, y in places.values()]
    if limit is not None:
        line = (limit - low) / (high - low) * height
        taken.append(_Box(0, line - 2, width, line + 2))
    for trial in (t for t in shown if t.on_front):
        text = f"{trial.number}" if narrow else f"{trial.number}: {shortened(trial.label, 52)}"
        x, y = places[trial.number]
        corners = [(a, b) for b in (6, -14, 18, -26) for a in (7, -7)]
        boxes = [_text_box(x + a, y + b, text, rightwards=a > 0) for a, b in corners]
        free = [
            not any(box.meets(other) for other in taken) and box.left > 0 and box.right < width
            for box in boxes
        ]
        chosen = free.index(True) if any(free) else 0
        taken.append(boxes[chosen])
        axes.annotate(
            text,
            (trial.cost or 0.0, trial.accuracy or 0.0),
            xytext=corners[chosen],
            textcoords="offset points",
            ha="left" if corners[chosen][0] > 0 else "right",
            fontsize=_LABEL_POINTS,
        )


class _Box(NamedTuple):
    """A rectangle in points."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.low < other.high
            and other.low < self.high
        )


def _text_box(x: float, y: float, text: str, *, rightwards: bool) -> _Box:
    """About what a text covers: letters are half as wide as high."""
    width = 0.56 * _LABEL_POINTS * len(text)
    left = x if rightwards else x - width
    return _Box(left, y, left + width, y + _LABEL_POINTS)


def _axis_title(text: str, narrow: bool) -> str:
    """In two lines where one is too long for a phone."""
    if not narrow or len(text) < 36:
        return text
    head, _, tail = text.rpartition(" (")
    cut = head.rfind(" ", 0, 36) if len(head) > 36 else len(head)
    rest = head[cut:].strip()
    return f"{head[:cut]}\n{f'{rest} ' if rest else ''}({tail}"
