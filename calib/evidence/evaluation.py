"""The predicate of our own: the figures of a run, in a form that is published and versioned.

Its schema is docs/evaluation.schema.json. Fields are lowerCamelCase, and a reader ignores what it
does not know, as in-toto asks of predicates: a later version adds fields and changes none.
"""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from calib.results import CandidateRecord, RunResult

EVALUATION = "https://calib.dev/attestation/evaluation/v1"


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
    )


class SamplesPart(_Part):
    """How many samples each split has."""

    calibration: int
    validation: int


class MetricPart(_Part):
    """One figure, of the candidate and of FP32."""

    name: str
    unit: str
    value: float | None
    reference: float | None = Field(description="FP32's.")


class CandidatePart(_Part):
    """One engine, and what it came to."""

    name: str
    sha256: str
    size_bytes: int
    metrics: tuple[MetricPart, ...]
    flips: int | None = Field(description="Predictions unlike FP32's.")


class LimitPart(_Part):
    """One limit held against one candidate."""

    candidate: str
    limit: str
    asked: float
    found: float | None
    low: float | None = Field(description="The true value is below it with chance alpha at most.")
    high: float | None = Field(description="The true value is above it with chance alpha at most.")
    alpha: float | None
    method: str
    samples: int
    verdict: str


class Evaluation(_Part):
    """What was found and judged."""

    schema_version: Literal[1] = 1
    experiment: str
    run_id: str
    attested_on: str = Field(description="RFC 3339, UTC.")
    verdict: str
    chosen: str | None
    reason: str
    samples: SamplesPart
    candidates: tuple[CandidatePart, ...]
    limits: tuple[LimitPart, ...]
    facts: dict[str, Any] = Field(
        description="The run's record, without texts and pictures of samples: what other limits "
        "are judged by. Of the version of calib that the provenance names."
    )


def evaluation_of(result: RunResult, attested_on: str) -> Evaluation:
    """The figures of a run.

    Args:
        result: of the run.
        attested_on: RFC 3339, UTC.
    """
    return Evaluation(
        experiment=result.experiment,
        run_id=result.run_id,
        attested_on=attested_on,
        verdict=result.verdict.verdict.value,
        chosen=result.verdict.chosen,
        reason=result.verdict.reason,
        samples=SamplesPart(
            calibration=result.data.calibration.samples, validation=result.data.validation.samples
        ),
        candidates=tuple(_candidate(c) for c in result.candidates),
        limits=tuple(
            LimitPart(
                candidate=c.candidate,
                limit=r.rule,
                asked=r.limit,
                found=r.found,
                low=r.low,
                high=r.high,
                alpha=r.alpha,
                method=r.method,
                samples=r.samples,
                verdict=r.verdict.value,
            )
            for c in result.verdict.candidates
            for r in c.rules
        ),
        facts=_strict_json(without_bulk(result).model_dump(mode="json")),
    )


def _candidate(candidate: CandidateRecord) -> CandidatePart:
    score = candidate.score
    return CandidatePart(
        name=candidate.name,
        sha256=candidate.model_sha256,
        size_bytes=candidate.size_bytes,
        metrics=tuple(
            MetricPart(name=m.name, unit=m.unit, value=m.value, reference=m.reference)
            for m in (score.metrics if score is not None else ())
        ),
        flips=candidate.flips.total if candidate.flips is not None else None,
    )


def _strict_json(value: Any) -> Any:
    """With strings for what JSON has no number for; pydantic reads them as numbers again."""
    if isinstance(value, dict):
        return {key: _strict_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def without_bulk(result: RunResult) -> RunResult:
    """The record without texts and pictures of samples: those may not be published."""
    candidates = [
        c.model_copy(
            update={
                "tail": (),
                "layers": (),
                "heads": tuple(h.model_copy(update={"tail": ()}) for h in c.heads),
            }
        )
        for c in result.candidates
    ]
    return result.model_copy(update={"candidates": tuple(candidates)})
