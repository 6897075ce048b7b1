"""Holding a run's facts against limits: a pure function, so an old run can be judged again."""

import math

from calib.advice import speed_advice
from calib.errors import ConfigError
from calib.gate.limits import LimitsSpec
from calib.gate.rules import EXECUTION, RULES, Facts, Rule
from calib.results import (
    CandidateRecord,
    CandidateVerdict,
    Precision,
    RuleVerdict,
    RunResult,
    RunVerdict,
    Verdict,
)

_RANK = {Verdict.PASS: 0, Verdict.NO_EVIDENCE: 1, Verdict.FAIL: 2}
_EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.NO_EVIDENCE: 3}


def exit_code(verdict: Verdict) -> int:
    """0 pass, 1 fail, 3 no evidence."""
    return _EXIT_CODES[verdict]


def evaluate(result: RunResult, limits: LimitsSpec) -> RunVerdict:
    """Judge every candidate but FP32, then the run. `result.verdict` is not looked at.

    A candidate fails if a rule fails; it has no evidence if a rule has none, or nothing was asked;
    otherwise it passes.

    Raises:
        ConfigError: if `limits.judge` names no INT8 or FP16 candidate of the run.
    """
    rivals = [c for c in result.candidates if c.precision is not Precision.FP32]
    verdicts = {c.name: _judge_candidate(result, c, limits) for c in rivals}
    judged = tuple(verdicts.values())
    quantized = [c for c in rivals if c.precision is Precision.INT8]
    if limits.judge not in ("best", "all"):
        quantized = [c for c in rivals if c.name == limits.judge]
        if not quantized:
            raise ConfigError(
                "limits.judge",
                "names no candidate of this run",
                got=repr(limits.judge),
                expected=f"best, all, or one of {', '.join(verdicts)}",
            )
    if not quantized:
        return RunVerdict(
            verdict=Verdict.NO_EVIDENCE,
            chosen=None,
            reason="There is no INT8 candidate to judge.",
            candidates=judged,
        )
    ranked = sorted(quantized, key=lambda c: (_RANK[verdicts[c.name].verdict], *_merit(c)))
    chosen = ranked[-1] if limits.judge == "all" else ranked[0]
    verdict = verdicts[chosen.name]
    return RunVerdict(
        verdict=verdict.verdict,
        chosen=chosen.name,
        reason=_reason(chosen, verdict),
        advice=""
        if verdict.verdict is Verdict.FAIL
        else speed_advice(result, chosen, limits.batch_size, limits.threads),
        candidates=judged,
    )


def _merit(candidate: CandidateRecord) -> tuple[float, int, str]:
    """Sorts the better candidate first: task metric, then fewest worsened samples, then name."""
    score, flips = candidate.score, candidate.flips
    merit = 0.0
    if score is not None:
        error = score.mean_abs_error
        merit = next(
            (m for m in (score.accuracy_pct, score.mean_cosine) if m is not None),
            -error if error is not None else 0.0,
        )
    return -merit, flips.worsened if flips is not None else 0, candidate.name


def _judge_candidate(
    result: RunResult, candidate: CandidateRecord, limits: LimitsSpec
) -> CandidateVerdict:
    facts = Facts(result, candidate, limits)
    rules = tuple(
        _apply(rule, float(limit), facts)
        for rule in RULES
        if (limit := getattr(limits, rule.name)) is not None
    )
    if rules and candidate.engines:
        rules += (_apply(EXECUTION, 1.0, facts),)
    worst = max((r.verdict for r in rules), key=_RANK.__getitem__, default=Verdict.NO_EVIDENCE)
    return CandidateVerdict(candidate=candidate.name, verdict=worst, rules=rules)


def _apply(rule: Rule, limit: float, facts: Facts) -> RuleVerdict:
    found = rule.measure(facts)
    sign = "≤" if rule.is_maximum else "≥"
    return RuleVerdict(
        rule=rule.name,
        title=f"{rule.title} {sign} {limit:g}{f' {rule.unit}' if rule.unit else ''}",
        verdict=_verdict(rule, limit, found.value, found.samples),
        limit=limit,
        found=found.value,
        unit=rule.unit,
        samples=found.samples,
        details=found.details,
    )


def _verdict(rule: Rule, limit: float, found: float | None, samples: int) -> Verdict:
    if found is None or math.isnan(found) or samples == 0:
        return Verdict.NO_EVIDENCE
    kept = found <= limit if rule.is_maximum else found >= limit
    return Verdict.PASS if kept else Verdict.FAIL


def _reason(candidate: CandidateRecord, verdict: CandidateVerdict) -> str:
    total = len(verdict.rules)
    bad = [r for r in verdict.rules if r.verdict is verdict.verdict]
    match verdict.verdict:
        case Verdict.PASS:
            head = f"{candidate.name} keeps all {total} limits"
        case Verdict.FAIL:
            names = "; ".join(f"{r.title}, found {_number(r.found)}" for r in bad)
            head = f"{candidate.name} breaks {len(bad)} of {total} limits: {names}"
        case Verdict.NO_EVIDENCE if not total:
            return f"{candidate.name}: the config asks for nothing, so there is nothing to pass."
        case Verdict.NO_EVIDENCE:
            names = "; ".join(f"{r.title}: {r.details}" for r in bad)
            head = f"{candidate.name} has no evidence for {len(bad)} of {total} limits: {names}"
    return f"{head}.{_accuracy_sentence(candidate)}"


def _accuracy_sentence(candidate: CandidateRecord) -> str:
    score = candidate.score
    if score is None or score.accuracy_pct is None or score.reference_accuracy_pct is None:
        return ""
    change = score.accuracy_pct - score.reference_accuracy_pct
    return (
        f" Accuracy {score.accuracy_pct:.2f} % against FP32's {score.reference_accuracy_pct:.2f} % "
        f"({change:+.2f} points) on {score.samples:,} samples."
    )


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"
