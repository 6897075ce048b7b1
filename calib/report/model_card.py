"""The model card: what somebody must know who did not make the model, in Markdown."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from calib.advice import speedup_over
from calib.gate.waiving import Waived
from calib.gate.wording import found_text
from calib.report.evidence import bounds_words
from calib.report.markdown import markdown_environment
from calib.report.words import NOTHING, megabytes, number
from calib.results import (
    CandidateRecord,
    CandidateVerdict,
    DatasetRecord,
    Precision,
    RunResult,
    Severity,
    SliceScore,
    TensorSpec,
)

_ALPHA = 0.025
_SLICES = 10
_CAVEATS = 20


class _Figure(NamedTuple):
    title: str
    reference: str
    own: str
    lost: str
    bounds: str


def render_model_card(
    result: RunResult, candidate: CandidateRecord, answered: Waived, name: str
) -> str:
    """The card as Markdown; the same run and waivers give the same text.

    Args:
        result: of the run.
        candidate: what the card is of.
        answered: its verdict, with the waivers that count.
        name: of the model where it is served.
    """
    judged = next(
        (c for c in result.verdict.candidates if c.candidate == candidate.name),
        CandidateVerdict(candidate=candidate.name, verdict=result.verdict.verdict, rules=()),
    )
    card = (
        markdown_environment()
        .get_template("model_card.md")
        .render(
            name=name,
            result=result,
            candidate=candidate,
            reference=result.reference,
            model_file=PurePath(result.model.path).name,
            megabytes=megabytes,
            signatures=[("input", s.name, _signature(s)) for s in result.model.inputs]
            + [("output", s.name, _signature(s)) for s in result.model.outputs],
            splits=[
                ("calibration", result.data.calibration, _labels(result.data.calibration)),
                ("validation", result.data.validation, _labels(result.data.validation)),
            ],
            figures=list(_figures(candidate, judged)),
            rules=[(r, found_text(r)) for r in judged.rules],
            answered=answered,
            slices=_slices(candidate),
            slice_count=len(candidate.slices),
            findings=_findings(result),
            speed=list(_speed(result, candidate)),
            point=_point(candidate),
            made=list(_made(result, candidate)),
            caveats=list(_caveats(result, candidate)),
        )
    )
    return f"{card.rstrip()}\n"


def _signature(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _labels(data: DatasetRecord) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in data.label_counts.items())


def _figures(candidate: CandidateRecord, judged: CandidateVerdict) -> Iterator[_Figure]:
    """The task's metrics: FP32's, the candidate's, what was lost and how sure that is."""
    score = candidate.score
    if score is None:
        return
    pair = next((p for p in judged.paired if p.rival == Precision.FP32), None)
    bounds = "" if pair is None else bounds_words(pair.low, pair.high, pair.alpha, "points")
    for title, reference, own, known in (
        ("accuracy, %", score.reference_accuracy_pct, score.accuracy_pct, bounds),
        ("macro recall, %", score.reference_macro_recall_pct, score.macro_recall_pct, ""),
    ):
        # A kind's own accuracy is the same figure; its bounds are the gate's only here.
        if reference is not None and own is not None:
            yield _Figure(title, number(reference), number(own), number(reference - own), known)
    for title, reference, own in (
        ("mean absolute error", score.reference_mean_abs_error, score.mean_abs_error),
        (
            "root mean square error",
            score.reference_root_mean_square_error,
            score.root_mean_square_error,
        ),
    ):
        if reference is not None and own is not None:
            yield _Figure(title, number(reference), number(own), number(own - reference), "")
    if score.mean_cosine is not None:
        yield _Figure("mean cosine to FP32", "1", number(score.mean_cosine), NOTHING, "")
    shown = {"accuracy_pct", "macro_recall_pct"} if score.accuracy_pct is not None else set()
    told = [("", m) for m in score.metrics if m.name not in shown]
    told += [(", FP32's answers as truth", m) for m in score.agreement]
    for against, metric in told:
        between = metric.bounds(_ALPHA)
        yield _Figure(
            f"{metric.title}{against}",
            metric.reference_text,
            metric.text,
            number(metric.loss),
            "" if between is None else bounds_words(*between, _ALPHA, metric.unit),
        )


def _slices(candidate: CandidateRecord) -> list[tuple[SliceScore, str]]:
    """The slices that lost most."""

    def lost(found: SliceScore) -> float:
        return 100 * (found.worsened - found.improved) / max(found.samples, 1)

    ranked = sorted(candidate.slices, key=lambda s: (-lost(s), s.family, s.name))
    return [(s, f"{lost(s):+.2f}") for s in ranked[:_SLICES]]


def _findings(result: RunResult) -> list[tuple[str, str]]:
    """What the audit warned of, and what to do about it."""
    found = result.audit.findings if result.audit is not None else ()
    return [
        (f"{f.severity.value}: {f.title} ({f.evidence})", f.action)
        for f in found
        if f.severity is not Severity.INFO
    ]


def _point(candidate: CandidateRecord) -> str:
    timed = candidate.latency_at()
    return "" if timed is None else timed.point


def _speed(result: RunResult, candidate: CandidateRecord) -> Iterator[tuple[str, ...]]:
    """FP32, FP16 and the candidate at the point of the report's first screen."""
    for one in result.candidates:
        if one.name != candidate.name and one.precision is Precision.INT8:
            continue
        timed = one.latency_at()
        faster = speedup_over(result, one.name, Precision.FP32.value)
        is_reference = one.precision is Precision.FP32
        yield (
            f"{one.name} (emulated: its time says nothing)" if one.emulated else one.name,
            number(None if timed is None else timed.p50_ms),
            number(None if timed is None else timed.p99_ms),
            NOTHING if is_reference or faster is None else str(faster),
            megabytes(one.size_bytes),
            megabytes(one.peak_memory_bytes, 3),
        )


def _made(result: RunResult, candidate: CandidateRecord) -> Iterator[str]:
    """How it was quantized, a sentence each."""
    calibration, remedies = result.calibration, result.remedies
    layout = result.config.get("quantization", {}).get("layout")
    if candidate.precision is Precision.INT8:
        yield (
            f"Thresholds by the calibrator {candidate.calibrator}, from {calibration.samples:,} "
            f"samples; {len(calibration.activations):,} activations and "
            f"{len(calibration.weights):,} weights in INT8, the rest in {candidate.rest}."
        )
        if layout:
            yield f"Layout: {layout}."
    if calibration.left_alone:
        yield f"{len(calibration.left_alone):,} tensors were left in float."
    if remedies is not None:
        kept = [step.what for step in remedies.steps if step.kept]
        yield f"Remedies: {'; '.join(kept) or 'none helped'}."
        in_float = [group.name for group in remedies.groups if group.in_float]
        if in_float:
            yield f"Left in float for accuracy: {', '.join(in_float)}."
    if result.placement is not None:
        yield f"Where integers run: {result.placement.why}"
    for engine in candidate.engines:
        ran = "ran" if engine.ran_here else "was built, not run"
        yield (
            f"Engine for {engine.target}: {engine.backend} {engine.version}, "
            f"{megabytes(engine.plan_bytes)} MB, SHA-256 {engine.plan_sha256}; it {ran} here."
        )


def _caveats(result: RunResult, candidate: CandidateRecord) -> Iterator[str]:
    """What spoils, or bounds, what the card says."""
    yield (
        "The figures hold for data like the validation samples; no more is known of data unlike "
        "them."
    )
    if candidate.score is None:
        yield "Without labels nothing is known of accuracy: only of agreement with FP32."
    speed = result.speed.warnings if result.speed is not None else ()
    told = (
        *result.notes,
        *result.model.warnings,
        *result.calibration.warnings,
        *candidate.warnings,
        *(f"speed: {text}" for text in speed),
    )
    yield from told[:_CAVEATS]
    if len(told) > _CAVEATS:
        yield f"{len(told) - _CAVEATS} more are in the run's report."
