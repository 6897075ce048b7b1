"""The plots that need no script: the same for the same result, readable on light and on dark."""

from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from calib.report.svg import DASHES, INK, MARKERS, SERIES, drawn, finish, series_colour, shortened
from calib.results import CandidateRecord, RemediesRecord, RunResult

_POINTS_MIN = 3
_CLASSES_DRAWN = 40


def layers_plot(result: RunResult) -> Markup:
    """SQNR of each compared tensor in graph order, a line a candidate; empty without layers."""
    shown = [c for c in result.candidates if c.layers]
    if not shown:
        return Markup("")

    def draw(axes: Axes, narrow: bool) -> None:
        for index, candidate in enumerate(shown):
            values = [float("nan") if e.sqnr_db is None else e.sqnr_db for e in candidate.layers]
            axes.plot(values, lw=1.4, **_line(index), label=candidate.name)
        axes.set_xlabel("tensor, in graph order")
        axes.set_ylabel("SQNR (dB), higher is better")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        finish(axes, 1 if narrow else len(shown))

    return drawn("Signal to quantization noise of every layer, by candidate", 3, draw)


def classes_plot(candidate: CandidateRecord) -> Markup:
    """Recall lost or won by class; empty without labels."""
    classes = candidate.score.classes if candidate.score is not None else ()
    if not classes:
        return Markup("")
    # The worst come first and stand at the top.
    ordered = sorted(classes, key=lambda c: c.recall_pct - c.reference_recall_pct)
    ordered = ordered[:_CLASSES_DRAWN][::-1]
    changes = [c.recall_pct - c.reference_recall_pct for c in ordered]

    def draw(axes: Axes, narrow: bool) -> None:
        colours = [SERIES[0] if change >= 0 else SERIES[1] for change in changes]
        places = range(len(ordered))
        axes.barh(places, changes, color=colours, height=0.7)
        names = [shortened(c.name, 16 if narrow else 32) for c in ordered]
        axes.set_yticks(places, names)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_xlabel("recall less FP32's, in points")

    height = 0.7 + 0.22 * len(ordered)
    return drawn(f"Change of recall by class, {candidate.name}", height, draw)


def floats_plot(remedies: RemediesRecord | None) -> Markup:
    """SQNR over the share of the work in INT8, of every choice measured; empty without a search."""
    trials = remedies.trials if remedies is not None else ()
    if len(trials) < _POINTS_MIN:
        return Markup("")
    kinds: tuple[tuple[bool, dict[str, Any]], ...] = (
        (False, {"s": 18, "color": INK, "marker": "o", "label": "measured"}),
        (True, {"s": 60, "color": SERIES[1], "marker": "D", "label": "chosen"}),
    )

    def draw(axes: Axes, _narrow: bool) -> None:
        for chosen, style in kinds:
            points = [t for t in trials if t.kept is chosen]
            work, sqnr = [t.macs_int8_pct for t in points], [t.sqnr_db for t in points]
            axes.scatter(work, sqnr, zorder=2, **style)
        axes.set_xlabel("multiply-accumulates in INT8 (%)")
        axes.set_ylabel("SQNR at the scores (dB)")
        finish(axes, 2)

    return drawn("Accuracy over the share of the work in INT8", 2.6, draw)


def growth_plot(result: RunResult, calibrator: str | None) -> Markup:
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
        return Markup("")
    worst = sorted(grown, key=lambda name: -max(abs(v - 1) for v in grown[name]))[:3]

    def draw(axes: Axes, narrow: bool) -> None:
        for name, values in grown.items():
            if name not in worst:
                axes.plot(samples, values, lw=0.6, color=INK, alpha=0.5)
        for index, name in enumerate(worst):
            label = shortened(name, 36 if narrow else 80, keep_end=True)
            marker = MARKERS[index]
            axes.plot(samples, grown[name], lw=1.4, ms=4, marker=marker, **_line(index))
            axes.plot([], [], lw=1.4, ms=4, marker=marker, **_line(index), label=label)
        axes.set_xlabel("calibration samples")
        axes.set_ylabel(f"{calibrator} threshold, of the last")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4 if narrow else 8))
        finish(axes, 1)

    return drawn(f"Growth of every threshold over the samples, {calibrator}", 3.4, draw)


def _line(index: int) -> dict[str, Any]:
    return {"color": series_colour(index), "ls": DASHES[index % len(DASHES)]}
