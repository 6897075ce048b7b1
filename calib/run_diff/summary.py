"""One run as a row."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from calib.results import CandidateRecord, FlipSummary, RunResult, RunSummary, TaskKind


def summarise(results: Iterable[RunResult]) -> tuple[RunSummary, ...]:
    """The runs as rows, in the order given; machines, data and models are told by letters."""
    letters: dict[str, dict[str, str]] = {"machine": {}, "data": {}, "model": {}}

    def letter(kind: str, value: str) -> str:
        known = letters[kind]
        return known.setdefault(value, _letter(len(known)))

    return tuple(
        _summary(
            result,
            letter("machine", machine_of(result)),
            letter("data", result.data.validation.sha256),
            letter("model", result.model.sha256),
        )
        for result in results
    )


def machine_of(result: RunResult) -> str:
    """Everything that makes timings of two runs unlike."""
    own = result.environment
    facts = [own.hostname_sha256, own.cpu, own.gpu, own.backend, own.backend_details, own.packages]
    return json.dumps(facts, sort_keys=True)


def chosen_candidate(result: RunResult) -> CandidateRecord | None:
    """What the verdict speaks of; else the first that is INT8; None if there is none."""
    if result.verdict.chosen is not None:
        return result.candidate(result.verdict.chosen)
    return next((c for c in result.candidates if c.precision == "int8"), None)


@dataclass(frozen=True, slots=True)
class TaskFigure:
    """The task's metric of one candidate; without a name there is none.

    Attributes:
        is_mean: of one figure a sample, so that its difference has a paired interval.
    """

    name: str = ""
    unit: str = ""
    value: float | None = None
    reference: float | None = None
    lower_is_better: bool = False
    is_mean: bool = False


def metric_of(candidate: CandidateRecord) -> TaskFigure:
    """The task's headline, of the candidate and of FP32."""
    score = candidate.score
    if score is None:
        return TaskFigure()
    if score.kind is TaskKind.CLASSIFICATION and score.accuracy_pct is not None:
        own, other = score.accuracy_pct, score.reference_accuracy_pct
        return TaskFigure("accuracy", "points", own, other, is_mean=True)
    if score.kind is TaskKind.REGRESSION and score.mean_abs_error is not None:
        own, other = score.mean_abs_error, score.reference_mean_abs_error
        return TaskFigure("mean absolute error", "", own, other, lower_is_better=True, is_mean=True)
    if score.kind is TaskKind.EMBEDDING and score.mean_cosine is not None:
        return TaskFigure("mean cosine", "", score.mean_cosine, 1.0, is_mean=True)
    head = score.headline
    if head is None:
        return TaskFigure()
    lower = not head.higher_is_better
    return TaskFigure(head.title, head.unit, head.value, head.reference, lower_is_better=lower)


def _summary(result: RunResult, machine: str, data: str, model: str) -> RunSummary:
    own = chosen_candidate(result)
    figure = metric_of(own) if own else TaskFigure()
    flips = own.flips if own else None
    noise = [e.sqnr_db for e in own.outputs if e.sqnr_db is not None] if own else []
    latency = own.latency_at() if own and not own.emulated else None
    return RunSummary(
        run_id=result.run_id,
        experiment=result.experiment,
        started_at=result.started_at,
        verdict=result.verdict.verdict.value,
        candidate=own.name if own else None,
        samples=flips.samples if flips else 0,
        metric=figure.name,
        value=figure.value,
        reference=figure.reference,
        flips_pct=_pct(flips, "total"),
        worsened_pct=_pct(flips, "worsened"),
        sqnr_db=min(noise) if noise else None,
        p50_ms=latency.p50_ms if latency else None,
        batch_size=latency.batch_size if latency else None,
        size_bytes=own.size_bytes if own else None,
        audit=(result.audit.worst or "") if result.audit else "",
        machine=machine,
        data=data,
        model=model,
    )


def _pct(flips: FlipSummary | None, field: str) -> float | None:
    if flips is None or not flips.samples:
        return None
    return 100 * float(getattr(flips, field)) / flips.samples


def _letter(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    head, last = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + last)
