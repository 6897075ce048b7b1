"""Holding a run's facts against limits: a pure function, so an old run can be judged again."""

import math

from calib.advice import speed_advice
from calib.errors import ConfigError
from calib.gate.facts import Facts, Found, Rule
from calib.gate.limits import LimitsSpec
from calib.gate.paired import paired_verdicts
from calib.gate.rules import EXECUTION, RULES
from calib.gate.statistics import Interval
from calib.gate.wording import advice, reason, selection, title, what_decides
from calib.results import (
    CandidateRecord,
    CandidateVerdict,
    Precision,
    RuleVerdict,
    RunResult,
    RunVerdict,
    Verdict,
)

_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.NO_EVIDENCE: 2, Verdict.FAIL: 3}


def evaluate(result: RunResult, limits: LimitsSpec) -> RunVerdict:
    """Judge every candidate but FP32, then the run. `result.verdict` is not looked at.

    A candidate fails if a rule fails; it has no evidence if a rule has none, or nothing was asked;
    it is inconclusive if a rule is; otherwise it passes. Where the best of k INT8 candidates may
    ship, each is judged with `limits.alpha` / k: a bad one among them passes no more often than
    `limits.alpha` (Bonferroni).

    Raises:
        ConfigError: if `limits.judge` names no INT8 or FP16 candidate of the run.
    """
    rivals = [c for c in result.candidates if c.precision is not Precision.FP32]
    quantized = [c for c in rivals if c.precision is Precision.INT8]
    alpha = limits.alpha
    if limits.judge == "best":
        alpha /= max(len(quantized), 1)
    verdicts = {c.name: _judge_candidate(result, c, limits, alpha) for c in rivals}
    judged = tuple(verdicts.values())
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
        reason=reason(chosen, verdict),
        advice=_advice(result, chosen, verdict, limits),
        selection=selection(limits, len(quantized)),
        alpha=alpha,
        candidates=judged,
    )


def _advice(
    result: RunResult, chosen: CandidateRecord, verdict: CandidateVerdict, limits: LimitsSpec
) -> str:
    if verdict.verdict is Verdict.FAIL:
        return ""
    on_speed = speed_advice(result, chosen, limits.batch_size, limits.threads)
    return " ".join(filter(None, (advice(verdict), on_speed)))


def _merit(candidate: CandidateRecord) -> tuple[float, int, str]:
    """Sorts the better candidate first: task metric, then fewest worsened samples, then name."""
    score, flips = candidate.score, candidate.flips
    merit = 0.0
    if score is not None:
        metrics = score.metrics or score.agreement
        if metrics and metrics[0].value is not None:
            value = metrics[0].value
            merit = value if metrics[0].higher_is_better else -value
    return -merit, flips.worsened if flips is not None else 0, candidate.name


def _judge_candidate(
    result: RunResult, candidate: CandidateRecord, limits: LimitsSpec, alpha: float
) -> CandidateVerdict:
    facts = Facts(result, candidate, limits, alpha)
    rules = tuple(
        _apply(rule, float(limit), facts)
        for rule in RULES
        if (limit := getattr(limits, rule.name)) is not None
    )
    for name in limits.heads:
        rules += _judge_head(result, candidate, limits, name, alpha)
    if rules and candidate.engines:
        rules += (_apply(EXECUTION, 1.0, facts),)
    worst = max((r.verdict for r in rules), key=_RANK.__getitem__, default=Verdict.NO_EVIDENCE)
    return CandidateVerdict(
        candidate=candidate.name, verdict=worst, rules=rules, paired=paired_verdicts(facts)
    )


def _judge_head(
    result: RunResult, candidate: CandidateRecord, limits: LimitsSpec, name: str, alpha: float
) -> tuple[RuleVerdict, ...]:
    """A head's limits, held as those of a candidate that has no other."""
    head = next((h for h in candidate.heads if h.name == name), None)
    own = candidate.model_copy(
        update={
            "score": head.score if head else None,
            "flips": head.flips if head else None,
            "slices": (),
            "paired": (),
            "outputs": (),
        }
    )
    asked = limits.of_head(name)
    facts = Facts(result, own, asked, alpha)
    return tuple(
        verdict.model_copy(
            update={"rule": f"{name}.{verdict.rule}", "title": f"{name}: {verdict.title}"}
        )
        for rule in RULES
        if (limit := getattr(asked, rule.name)) is not None
        for verdict in (_apply(rule, float(limit), facts),)
    )


def _apply(rule: Rule, limit: float, facts: Facts) -> RuleVerdict:
    found = rule.measure(facts)
    verdict = _verdict(rule, limit, found)
    is_open = verdict is Verdict.INCONCLUSIVE
    needed = found.needed(limit) if is_open and found.needed is not None else None
    bounds = found.interval
    return RuleVerdict(
        rule=rule.name,
        title=title(rule, limit),
        verdict=verdict,
        limit=limit,
        found=found.value,
        unit=rule.unit,
        samples=found.samples,
        details=found.details,
        low=bounds.low if bounds else None,
        high=bounds.high if bounds else None,
        alpha=facts.alpha if bounds else None,
        method=found.method if bounds else "",
        samples_needed=needed,
        samples_unit=found.unit if needed is not None else "",
        advice=what_decides(found, limit, needed) if is_open else "",
    )


def _verdict(rule: Rule, limit: float, found: Found) -> Verdict:
    value = found.value
    if value is None or math.isnan(value) or found.samples == 0:
        return Verdict.NO_EVIDENCE
    if found.verdict is not None:
        return found.verdict
    if not rule.sampled:
        kept = value <= limit if rule.is_maximum else value >= limit
        return Verdict.PASS if kept else Verdict.FAIL
    if found.interval is None:
        return Verdict.INCONCLUSIVE
    return _by_bounds(rule, limit, found.interval)


def _by_bounds(rule: Rule, limit: float, bounds: Interval) -> Verdict:
    """PASS if even the worse bound keeps the limit, FAIL if even the better one breaks it."""
    worse, better = bounds.high, bounds.low
    if not rule.is_maximum:
        worse, better, limit = -bounds.low, -bounds.high, -limit
    if worse <= limit:
        return Verdict.PASS
    return Verdict.FAIL if better > limit else Verdict.INCONCLUSIVE
