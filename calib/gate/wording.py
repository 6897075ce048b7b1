"""Verdicts in words: what was found, how sure that is, and what would decide."""

from calib.gate.facts import Found, Rule, loss_interval
from calib.gate.limits import LimitsSpec
from calib.results import CandidateRecord, CandidateVerdict, RuleVerdict, TaskScore, Verdict


def title(rule: Rule, limit: float) -> str:
    """What is asked, with the limit in it."""
    sign = "≤" if rule.is_maximum else "≥"
    return f"{rule.title} {sign} {limit:g}{f' {rule.unit}' if rule.unit else ''}"


def found_text(rule: RuleVerdict) -> str:
    """What was found, with its bounds."""
    if rule.found is None:
        return "nothing"
    unit = f" {rule.unit}" if rule.unit else ""
    if rule.low is None or rule.high is None or rule.alpha is None:
        return f"{rule.found:.4g}{unit}"
    bounds = f"{_level(rule.alpha)} bounds {rule.low:.3g} to {rule.high:.3g}"
    return f"{rule.found:.3g}{unit} ({bounds})"


def what_decides(found: Found, limit: float, needed: int | None) -> str:
    """What would decide what cannot be told.

    Args:
        found: without a verdict.
        limit: that it was held against.
        needed: samples, where a number of them would do.
    """
    if found.interval is None:
        return f"{found.samples:,} {found.unit} are too few for bounds: take more"
    if needed is not None:
        more = max(needed - found.samples, 1)
        return f"add about {rounded(more):,} {found.unit}"
    if limit == 0 and found.value is not None and found.value <= 0:
        return "no number of samples shows that nothing at all is lost: set a limit above 0"
    return "what was found is the limit itself, or nearly: no number of samples tells them apart"


def rounded(count: int) -> int:
    """A number to two digits, upwards: there is no more in an estimate of this kind."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def reason(candidate: CandidateRecord, verdict: CandidateVerdict) -> str:
    """Why the candidate has its verdict, in a sentence or two."""
    total = len(verdict.rules)
    bad = [r for r in verdict.rules if r.verdict is verdict.verdict]
    match verdict.verdict:
        case Verdict.PASS:
            head = f"{candidate.name} keeps all {total} limits"
        case Verdict.FAIL:
            names = "; ".join(f"{r.title}, found {found_text(r)}" for r in bad)
            head = f"{candidate.name} breaks {len(bad)} of {total} limits: {names}"
        case Verdict.INCONCLUSIVE:
            names = "; ".join(f"{r.title}, found {found_text(r)}" for r in bad)
            head = f"{candidate.name} may keep or break {len(bad)} of {total} limits: {names}"
        case Verdict.NO_EVIDENCE if not total:
            return f"{candidate.name}: the config asks for nothing, so there is nothing to pass."
        case Verdict.NO_EVIDENCE:
            names = "; ".join(f"{r.title}: {r.details}" for r in bad)
            head = f"{candidate.name} has no evidence for {len(bad)} of {total} limits: {names}"
    return f"{head}.{_accuracy_sentence(candidate, verdict)}"


def advice(verdict: CandidateVerdict) -> str:
    """What would decide the rules that cannot be told."""
    if verdict.verdict is not Verdict.INCONCLUSIVE:
        return ""
    more: dict[str, int] = {}
    for rule in verdict.rules:
        if rule.samples_needed is not None:
            missing = max(rule.samples_needed - rule.samples, 1)
            more[rule.samples_unit] = max(missing, more.get(rule.samples_unit, 0))
    counts = [f"add about {rounded(count):,} {unit}" for unit, count in more.items()]
    others = [r.advice for r in verdict.rules if r.advice and r.samples_needed is None]
    texts = "; ".join(dict.fromkeys([*counts, *others]))
    return f"To decide: {texts}. Or set limits that these samples can tell."


def selection(limits: LimitsSpec, candidates: int) -> str:
    """How the choice among candidates was accounted for."""
    alpha = limits.alpha
    if limits.judge == "all" and candidates > 1:
        return (
            f"All {candidates} INT8 candidates had to pass, so none was chosen by these samples: "
            f"each was judged with alpha {alpha:g}."
        )
    if limits.judge != "best":
        return (
            f"The config names the candidate, so these samples did not choose it: alpha {alpha:g}."
        )
    if candidates == 1:
        return f"There is one INT8 candidate, so these samples chose none: alpha {alpha:g}."
    return (
        f"The best of {candidates} INT8 candidates on the same samples: each was judged with "
        f"alpha {alpha:g} / {candidates} = {alpha / candidates:.2g} (Bonferroni)."
    )


def _accuracy_sentence(candidate: CandidateRecord, verdict: CandidateVerdict) -> str:
    score = candidate.score
    if score is None:
        return _collapsed(candidate)
    lost = f" Lost altogether: {', '.join(score.vanished[:5])}." if score.vanished else ""
    return f"{_headline_sentence(score, verdict)}{lost}{_collapsed(candidate)}"


def _collapsed(candidate: CandidateRecord) -> str:
    """The outputs' channels that no longer vary: a score that is always 0 says nothing."""
    sentences = []
    for error in candidate.outputs:
        found = error.channels
        if found is not None and found.collapsed:
            names = ", ".join(map(str, found.collapsed_channels[:5]))
            more = ", …" if found.collapsed > 5 else ""
            sentences.append(
                f" {found.collapsed} of {found.channels} channels of {error.tensor} no longer "
                f"vary: {names}{more}."
            )
    return "".join(sentences)


def _headline_sentence(score: TaskScore, verdict: CandidateVerdict) -> str:
    if score.accuracy_pct is None or score.reference_accuracy_pct is None:
        alpha = next((r.alpha for r in verdict.rules if r.alpha is not None), None)
        return _metric_sentence(score, alpha)
    change = score.accuracy_pct - score.reference_accuracy_pct
    known = next((p for p in verdict.paired if p.rival == "fp32"), None)
    bounds = (
        f", {_level(known.alpha)} bounds {-known.high:+.2f} to {-known.low:+.2f}" if known else ""
    )
    return (
        f" Accuracy {score.accuracy_pct:.2f} % against FP32's {score.reference_accuracy_pct:.2f} % "
        f"({change:+.2f} points{bounds}) on {score.samples:,} samples."
    )


def _metric_sentence(score: TaskScore, alpha: float | None) -> str:
    """The kind's first metric against FP32's, or how far both agree where there are no labels."""
    if score.metrics and (first := score.metrics[0]).loss is not None:
        bounds = None if alpha is None else loss_interval(first, score.samples, alpha)
        told = (
            f"; loss {first.loss:.3g}, {_level(alpha)} bounds {bounds.low:.3g} to {bounds.high:.3g}"
            if bounds is not None and alpha is not None
            else ""
        )
        return (
            f" {_capital(first.title)} {first.text} against FP32's {first.reference_text}{told}, "
            f"on {score.samples:,} samples."
        )
    if score.agreement and score.agreement[0].value is not None:
        first = score.agreement[0]
        return f" Without labels: {first.title} {first.text} with FP32's answers for the truth."
    return ""


def _capital(text: str) -> str:
    """A sentence's first word with a capital, but for names like mAP that have one inside."""
    first = text.split(" ", 1)[0]
    return text if first != first.lower() else text[:1].upper() + text[1:]


def _level(alpha: float) -> str:
    """How sure each bound is by itself."""
    return f"{100 * (1 - alpha):.3g} %"
