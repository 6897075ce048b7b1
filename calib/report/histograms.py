"""Histograms of |x| with each calibrator's threshold, of the tensors where these matter most."""

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from calib.report.svg import DASHES, INK, SERIES, drawn, finish, shortened
from calib.results import ActivationRecord

_DRAWN = 4


def histograms_plot(activations: list[ActivationRecord]) -> Markup:
    """The tensors whose calibrators disagree most, a plot each."""
    ranked = sorted(activations, key=_disagreement, reverse=True)[:_DRAWN]
    return Markup("").join(_plot(found) for found in ranked)


def _disagreement(found: ActivationRecord) -> float:
    """The largest threshold over the smallest; 1 if there is one or none is above 0."""
    low, high = min(found.amax.values(), default=0.0), max(found.amax.values(), default=0.0)
    return high / low if low > 0 else 1.0


def _plot(found: ActivationRecord) -> Markup:
    width = found.histogram_end / len(found.histogram)
    edges = [width * k for k in range(len(found.histogram) + 1)]
    top = max((k for k, n in enumerate(found.histogram) if n), default=0) + 1

    def draw(axes: Axes, narrow: bool) -> None:
        counts = found.histogram[:top]
        axes.stairs(counts, edges[: top + 1], fill=True, color=INK, alpha=0.45)
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
        for index, (name, amax) in enumerate(found.amax.items()):
            colour = SERIES[index % len(SERIES)]
            dashes = DASHES[index % len(DASHES)]
            axes.axvline(amax, color=colour, ls=dashes, lw=1.6, label=f"{name} {amax:.4g}")
        axes.set_xlabel(f"|x| of {shortened(found.tensor, 36 if narrow else 90, keep_end=True)}")
        axes.set_ylabel("values")
        finish(axes, 1 if narrow else len(found.amax))

    return drawn(f"Histogram of {shortened(found.tensor, 90)} with thresholds", 2.3, draw)


def _count(value: float) -> str:
    """1M for a million: a power of ten as a label."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
