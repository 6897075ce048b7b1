"""Candidates side by side, and what each class lost."""

from collections.abc import Callable

from calib.gate.facts import loss_interval
from calib.gate.worst_loss import class_interval
from calib.record import Precision
from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.plots import classes_plot
from calib.report.words import NOTHING, anchor, number
from calib.results import CandidateRecord, ClassMetric, MetricScore, RunResult

_CANDIDATES = (
    Column("Candidate"),
    Column("Task metric", numeric=True),
    Column("Change", numeric=True),
    Column("Flips", numeric=True),
    Column("Worsened", numeric=True),
    Column("Improved", numeric=True),
    Column("SQNR, dB", numeric=True),
    Column("p50, ms", numeric=True),
    Column("vs FP32", numeric=True),
    Column("vs FP16", numeric=True),
    Column("Size, MB", numeric=True),
    Column("Peak, MB", numeric=True),
)
_METRICS = (
    Column("Metric"),
    Column("Against"),
    Column("Candidate", numeric=True),
    Column("FP32", numeric=True),
    Column("Lost", numeric=True),
)
_BY_CLASS = (
    Column("Class"),
    Column("FP32", numeric=True),
    Column("Candidate", numeric=True),
    Column("Lost", numeric=True),
)
_ALPHA = 0.025
"""Chance of an error on each side of the bounds beside a metric."""
_CLASSES = (
    Column("Class"),
    Column("Samples", numeric=True),
    Column("FP32 recall, %", numeric=True),
    Column("Recall, %", numeric=True),
    Column("Change, points", numeric=True),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    return {
        "candidates": _candidates(page.result),
        "classes": _classes(page.shown),
        "classes_plot": classes_plot(page.shown),
        "metrics": _metrics(page.shown),
        "by_class": _by_class(page.shown),
        "resamples": _resamples(page.shown),
    }


def _resamples(shown: CandidateRecord) -> str:
    """How much the figures move when calibration is resampled, in a sentence; else nothing."""
    found, score = shown.resampled, shown.score
    values = [r.value for r in found if r.value is not None]
    if not values or score is None or score.headline is None:
        return ""
    first = score.headline
    flips = [r.flips for r in found]
    worst = max(r.thresholds_moved_pct for r in found)
    return (
        f"Calibrated anew {len(found)} times on resampled calibration data: {first.title} from "
        f"{number(min(values))} to {number(max(values))} (as it is {first.text}), "
        f"{min(flips)} to {max(flips)} flips; no threshold moved by more than {worst:.3g} %."
    )


def _candidates(result: RunResult) -> Table:
    return Table(
        id="candidates-table",
        caption="Candidates side by side",
        columns=_CANDIDATES,
        rows=tuple(
            Row(
                cells=_cells(result, candidate),
                id=anchor("candidate", candidate.name),
                mark="chosen" if candidate.name == result.verdict.chosen else "",
            )
            for candidate in result.candidates
        ),
    )


def _cells(result: RunResult, candidate: CandidateRecord) -> tuple[Cell, ...]:
    reference = candidate.precision is Precision.FP32
    flips = None if reference else candidate.flips
    noise = [e.sqnr_db for e in candidate.outputs if e.sqnr_db is not None]
    peak = candidate.peak_memory_bytes
    timed = candidate.latency_at()
    speedup = _speedups(result, candidate)
    return (
        Cell(candidate.name),
        Cell(metric_words(candidate)),
        Cell(NOTHING if reference else change_words(candidate)),
        *(
            figure(count, text=NOTHING if count is None else f"{count:,}")
            for count in (
                (flips.total, flips.worsened, flips.improved)
                if flips and candidate.tells_flips
                else (None, None, None)
            )
        ),
        fixed(min(noise) if noise else None, "%.1f"),
        fixed(None if timed is None else timed.p50_ms),
        Cell(speedup("fp32")),
        Cell(speedup("fp16")),
        fixed(candidate.size_bytes / 1e6, "%.1f"),
        fixed(peak / 1e6 if peak else None, "%.0f"),
    )


def _speedups(result: RunResult, candidate: CandidateRecord) -> Callable[[str], str]:
    medians = {c.name: r.p50_ms for c in result.candidates if (r := c.latency_at()) is not None}
    emulated = {c.name for c in result.candidates if c.emulated}
    own = medians.get(candidate.name)

    def speedup(rival: str) -> str:
        if not own or rival not in medians:
            return NOTHING
        if emulated & {candidate.name, rival}:
            return "emulated"
        return f"{medians[rival] / own:.2f}×"  # noqa: RUF001

    return speedup


def metric_words(candidate: CandidateRecord) -> str:
    """The task's first metric with its unit; a dash where nothing was scored."""
    score = candidate.score
    if score is None:
        return NOTHING
    if score.headline is not None:
        return score.headline.text
    return NOTHING if score.accuracy_pct is None else f"{score.accuracy_pct:.2f} %"


def change_words(candidate: CandidateRecord) -> str:
    """What that metric lost (below 0) or won against FP32's, in its unit."""
    score = candidate.score
    if score is None:
        return NOTHING
    first = score.headline
    if first is not None and first.loss is not None:
        return f"{-first.loss if first.higher_is_better else first.loss:+.4g}"
    if score.accuracy_pct is None or score.reference_accuracy_pct is None:
        return NOTHING
    return f"{score.accuracy_pct - score.reference_accuracy_pct:+.4g}"


def _metrics(candidate: CandidateRecord) -> Table:
    """The kind's own metrics, against labels and against FP32's answers."""
    score = candidate.score
    samples = score.samples if score is not None else 0
    told = (
        [("labels", m) for m in score.metrics] + [("FP32's answers", m) for m in score.agreement]
        if score is not None
        else []
    )
    rows = tuple(
        Row((Cell(m.title), Cell(against), Cell(m.text), Cell(m.reference_text), _loss(m, samples)))
        for against, m in told
    )
    return Table("metrics-table", f"Metrics of {candidate.name}", _METRICS, rows)


def _loss(metric: MetricScore, samples: int) -> Cell:
    bounds = loss_interval(metric, samples, _ALPHA)
    notes = (f"{number(bounds.low, 3)} to {number(bounds.high, 3)}",) if bounds is not None else ()
    cell = figure(metric.loss)
    return Cell(cell.text, cell.value, notes=notes)


def _by_class(candidate: CandidateRecord) -> Table:
    """The kind's figure for each class, what lost most first."""
    found = candidate.score.by_class if candidate.score is not None else ()
    rows = tuple(
        Row((Cell(c.name), figure(c.reference), figure(c.value), _class_loss(c)))
        for c in sorted(found, key=lambda c: (c.value - c.reference, c.name))
    )
    caption = f"The first metric of {candidate.name} by class"
    return Table("by-class-table", caption, _BY_CLASS, rows, interactive=True)


def _class_loss(found: ClassMetric) -> Cell:
    bounds = class_interval(found, _ALPHA) if found.samples else None
    notes = (f"{number(bounds.low, 3)} to {number(bounds.high, 3)}",) if bounds is not None else ()
    cell = figure(found.loss)
    return Cell(cell.text, cell.value, notes=notes)


def _classes(candidate: CandidateRecord) -> Table | None:
    classes = candidate.score.classes if candidate.score is not None else ()
    if not classes:
        return None
    ordered = sorted(classes, key=lambda c: (c.recall_pct - c.reference_recall_pct, c.name))
    return Table(
        id="classes-table",
        caption=f"Recall of {candidate.name} by class, what lost most first",
        columns=_CLASSES,
        rows=tuple(
            Row(
                id=anchor("class", c.name),
                cells=(
                    Cell(c.name),
                    figure(c.samples, text=f"{c.samples:,}"),
                    fixed(c.reference_recall_pct),
                    fixed(c.recall_pct),
                    fixed(c.recall_pct - c.reference_recall_pct, "%+.2f"),
                ),
            )
            for c in ordered
        ),
        interactive=True,
    )
