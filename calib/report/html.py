"""The report: one self-contained page, the verdict first."""

import json
import math
import statistics
from collections import Counter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calib.record import Precision
from calib.report.junit import render_junit
from calib.report.plots import classes_plot, floats_plot, growth_plot, layers_plot
from calib.report.speed import speed_section, write_speed_csv, write_throughput_csv
from calib.report.summary import render_summary, verdict_file
from calib.report.tables import (
    nodes_that_ran,
    write_layers_csv,
    write_ran_csv,
    write_thresholds_csv,
)
from calib.results import CalibrationRecord, CandidateRecord, RunResult
from calib.store import write_atomically

_NOTHING = "—"


def write_report(result: RunResult, directory: Path) -> None:
    """Write result.json, report.html, verdict.json, summary.md, junit.xml and the CSV files."""
    write_atomically(directory / "result.json", result.model_dump_json(indent=1))
    write_atomically(directory / "report.html", render_html(result))
    write_atomically(directory / "verdict.json", verdict_file(result).model_dump_json(indent=1))
    write_atomically(directory / "summary.md", render_summary(result))
    write_atomically(directory / "junit.xml", render_junit(result))
    write_layers_csv(result, directory / "layers.csv")
    write_ran_csv(result, directory / "ran.csv")
    write_thresholds_csv(result, directory / "thresholds.csv")
    write_speed_csv(result, directory / "speed.csv")
    write_throughput_csv(result, directory / "throughput.csv")


def render_html(result: RunResult) -> str:
    """The page as text. Whatever the run carries (texts, names, labels) is escaped."""
    environment = Environment(
        loader=PackageLoader("calib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    shown = shown_candidate(result)
    return environment.get_template("report.html").render(
        result=result,
        shown=shown,
        rows=[candidate_row(result, c) for c in result.candidates],
        verdicts=sorted(
            result.verdict.candidates, key=lambda v: v.candidate != result.verdict.chosen
        ),
        worst_layers=_worst_layers(shown),
        enough=[_enough(result.calibration, c) for c in result.calibration.calibrators]
        if result.calibration.part_samples
        else [],
        chosen=_chosen(result.calibration),
        left_alone=Counter(r.reason for r in result.calibration.left_alone).most_common(),
        engines=[(c.name, engine) for c in result.candidates for engine in c.engines],
        ran_in=_ran_in(shown),
        speed=speed_section(result),
        config=json.dumps(result.config, indent=2, ensure_ascii=False),
        plots={
            "classes": Markup(classes_plot(shown)),  # noqa: S704 - our own SVG
            "layers": Markup(layers_plot(result)),  # noqa: S704 - our own SVG
            "floats": Markup(floats_plot(result.remedies)),  # noqa: S704 - our own SVG
            "growth": Markup(growth_plot(result, shown.calibrator)),  # noqa: S704 - our own SVG
        },
    )


def shown_candidate(result: RunResult) -> CandidateRecord:
    """The candidate whose details the page shows: the chosen one, else the first that is INT8."""
    if result.verdict.chosen is not None:
        return result.candidate(result.verdict.chosen)
    rivals = [c for c in result.candidates if c.precision is Precision.INT8]
    return (rivals or list(result.candidates))[0]


def candidate_row(result: RunResult, candidate: CandidateRecord) -> dict[str, str]:
    """The cells of a candidate in the table that puts all side by side."""
    flips = candidate.flips
    noise = [e.sqnr_db for e in candidate.outputs if e.sqnr_db is not None]
    latency = candidate.latency_at()
    medians = {c.name: r.p50_ms for c in result.candidates if (r := c.latency_at()) is not None}
    own = latency.p50_ms if latency else None

    emulated = {c.name for c in result.candidates if c.emulated}

    def speedup(rival: str) -> str:
        if own and rival in medians and emulated & {candidate.name, rival}:
            return "emulated"
        return f"{medians[rival] / own:.2f}×" if own and rival in medians else _NOTHING  # noqa: RUF001

    reference = candidate.precision is Precision.FP32
    peak = candidate.peak_memory_bytes
    return {
        "name": candidate.name,
        "metric": _metric(candidate),
        "change": _NOTHING if reference else _change(candidate),
        "flips": _NOTHING if reference or flips is None else str(flips.total),
        "worsened": _NOTHING if reference or flips is None else str(flips.worsened),
        "improved": _NOTHING if reference or flips is None else str(flips.improved),
        "sqnr": f"{min(noise):.1f}" if noise else _NOTHING,
        "latency": f"{own:.2f}" if own else _NOTHING,
        "vs_fp32": speedup("fp32"),
        "vs_fp16": speedup("fp16"),
        "size": f"{candidate.size_bytes / 1e6:.1f}",
        "memory": f"{peak / 1e6:.0f}" if peak else _NOTHING,
    }


def _metric(candidate: CandidateRecord) -> str:
    score = candidate.score
    if score is None:
        return _NOTHING
    return score.headline.text if score.headline is not None else _NOTHING


def _change(candidate: CandidateRecord) -> str:
    score = candidate.score
    if score is None:
        return _NOTHING
    first = score.headline
    if first is None or first.loss is None:
        return _NOTHING
    return f"{-first.loss if first.higher_is_better else first.loss:+.4g}"


def _enough(calibration: CalibrationRecord, calibrator: str) -> dict[str, object]:
    """How many of a calibrator's thresholds have settled, and which one moves most."""
    answers = [a.enough.get(calibrator) for a in calibration.activations]
    errors = {
        a.tensor: error
        for a in calibration.activations
        if (error := a.standard_error_pct.get(calibrator)) is not None
    }
    worst = max(errors, key=lambda name: errors[name], default="")
    return {
        "calibrator": calibrator,
        "settled": answers.count(True),
        "moving": answers.count(False),
        "unknown": answers.count(None),
        "median": statistics.median(errors.values()) if errors else None,
        "largest": errors.get(worst),
        "tensor": worst,
    }


def _chosen(calibration: CalibrationRecord) -> list[tuple[str, list[tuple[str, int]]]]:
    """By calibrator that chooses: its choices and how often each was taken."""
    found = {
        name: Counter(a.chosen[name] for a in calibration.activations if name in a.chosen)
        for name in calibration.calibrators
    }
    return [(name, counts.most_common()) for name, counts in found.items() if counts]


def _worst_layers(candidate: CandidateRecord) -> frozenset[str]:
    ranked = sorted(
        (e for e in candidate.layers if e.sqnr_db is not None), key=lambda e: e.sqnr_db or 0.0
    )
    return frozenset(e.tensor for e in ranked[:10])


def _ran_in(candidate: CandidateRecord) -> dict[str, str]:
    """What each weighted node ran in, on the first target or on ONNX Runtime."""
    return {node.node: node.ran or "?" for node in nodes_that_ran(candidate)}


def number(value: float | None, digits: int = 4) -> str:
    """A number to some significant digits; a dash where there is no evidence."""
    if value is None:
        return _NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"  # noqa: RUF001
    return f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
