"""The first screen: the verdict, why, the figure it rests on, and what to do next."""

from dataclasses import dataclass
from datetime import UTC

from calib.gate.wording import found_text
from calib.report.evidence import bounds_words, evidence_of, rule_anchor, rule_bounds
from calib.report.page import Context, Page
from calib.report.sections.accuracy import change_words, metric_words
from calib.report.words import anchor, number, verdict_words
from calib.results import CandidateRecord, RuleVerdict

_REASONS = 5
_SPEED = ("speedup", "latency")
_NOT_ACCURACY = (*_SPEED, "size", "samples_min", "int8_macs", "execution")
_FIGURES = ("_drop_", "_increase_", "_rise_", "_loss_", "disagreement", "embedding_cosine_mean")
"""What the name of a rule on the task's own metric has in it."""


@dataclass(frozen=True, slots=True)
class Link:
    """A sentence, and where its evidence stands: an id on the page, or ""."""

    text: str
    target: str = ""
    where: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """A figure beside its limit on a line from `low` to `high`; places are per cent of the line."""

    found: float
    limit: float
    zero: float | None
    interval: tuple[float, float] | None
    words: str

    @property
    def bar(self) -> tuple[float, float]:
        """Start and width of the interval; of width 0 where there is none."""
        low, high = self.interval or (self.found, self.found)
        return low, high - low


def headline(page: Page) -> Context:
    """The variables of `headline.html`."""
    verdict = page.result.verdict
    rule = _figure_rule(page)
    return {
        "words": verdict_words(verdict.verdict),
        "reasons": reasons(page),
        "more": _more(page),
        "metric": metric_words(page.shown),
        "reference_metric": metric_words(page.result.reference),
        "change": _change(page.shown),
        "scale": None if rule is None else _scale(rule),
        "interval": _bounds(page, rule),
        "next": next_steps(page),
        "waivers": _waivers(page),
    }


def _waivers(page: Page) -> Context | None:
    """What waivers make of the verdict, and each of them; None where there are none."""
    waived = page.waived
    if waived is None or not waived.standings:
        return None
    counted, left = waived.counted, _left(page)
    if counted and not left:
        until = min(w.expires for w in counted).astimezone(UTC)
        mark, words = "pass", f"✓ May ship with waivers until {until:%Y-%m-%d %H:%M} UTC"
    elif counted:
        mark, words = "fail", f"✗ Not enough: no waiver for {', '.join(left)}"
    elif left:
        mark, words = "fail", "✗ No waiver counts here"
    else:
        mark, words = "info", "No waiver is needed"
    return {"mark": mark, "words": words, "standings": waived.standings}


def _left(page: Page) -> list[str]:
    """The limits that neither pass nor are waived."""
    rules = page.verdict.rules if page.verdict is not None else ()
    waived = page.waived.limits if page.waived is not None else ()
    return [r.rule for r in rules if r.verdict != "PASS" and r.rule not in waived]


def reasons(page: Page) -> list[Link]:
    """The rules that made the verdict, in words; those that are kept where it passed."""
    return [_reason(page.shown.name, rule) for rule in _decisive(page)[:_REASONS]]


def _decisive(page: Page) -> list[RuleVerdict]:
    rules = page.verdict.rules if page.verdict is not None else ()
    undone = [r for r in rules if r.verdict != "PASS"]
    order = ["FAIL", "INCONCLUSIVE", "NO_EVIDENCE"]
    return sorted(undone, key=lambda r: order.index(r.verdict)) or list(rules)


def _more(page: Page) -> int:
    return max(0, len(_decisive(page)) - _REASONS)


def _reason(candidate: str, rule: RuleVerdict) -> Link:
    if rule.found is None:
        found = rule.details or "nothing was measured"
    else:
        found = f"found {found_text(rule)}"
        if not rule.rule.startswith(("samples", "size")):
            found += f" on {rule.samples:,} samples"
    return Link(
        text=f"{rule.title}: {found}",
        target=rule_anchor(candidate, rule.rule),
        where=verdict_words(rule.verdict),
        mark=rule.verdict.lower(),
    )


def _change(shown: CandidateRecord) -> str:
    score = shown.score
    words = change_words(shown)
    is_points = score is not None and score.accuracy_pct is not None and words[-1:].isdigit()
    return f"{words} points" if is_points else words


def _figure_rule(page: Page) -> RuleVerdict | None:
    """The rule on the task's own metric, for the line with its limit."""
    rules = page.verdict.rules if page.verdict is not None else ()
    own = [r for r in rules if not r.rule.startswith(("worst", "macro", "margin"))]
    found = (r for part in _FIGURES for r in own if part in r.rule)
    return next((r for r in found if r.found is not None), None)


def _bounds(page: Page, rule: RuleVerdict | None) -> str:
    """How sure the figure is: by its rule, else by the comparison with FP32."""
    if rule is not None and (words := rule_bounds(rule)):
        return f"loss: {words}"
    pairs = page.verdict.paired if page.verdict is not None else ()
    pair = next((p for p in pairs if p.rival == "fp32"), None)
    if pair is None:
        return ""
    return f"loss: {bounds_words(pair.low, pair.high, pair.alpha, 'points')}"


def _scale(rule: RuleVerdict) -> Scale | None:
    """The line's ends are the extremes of what stands on it, and a little more."""
    interval = None if rule.low is None or rule.high is None else (rule.low, rule.high)
    is_drop = not rule.rule.startswith("embedding")
    values = [rule.found or 0.0, rule.limit, *(interval or ()), *((0.0,) if is_drop else ())]
    if any(abs(v) == float("inf") or v != v for v in values):
        return None
    low: float = min(values)
    high: float = max(values)
    room = 0.12 * (high - low) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return Scale(
        found=place(rule.found or 0.0),
        limit=place(rule.limit),
        zero=place(0.0) if is_drop else None,
        interval=None if interval is None else (place(interval[0]), place(interval[1])),
        words=f"{rule.title}: found {number(rule.found)} {rule.unit}. {rule_bounds(rule)}",
    )


def next_steps(page: Page) -> list[Link]:
    """What to do about the verdict, the most useful first."""
    found = page.result.verdict
    steps = {"PASS": _after_pass, "FAIL": _after_fail, "NO_EVIDENCE": _after_nothing}
    links = steps[found.verdict](page) if found.verdict in steps else []
    if found.advice:
        is_told = found.verdict == "INCONCLUSIVE"
        links.append(Link(found.advice, *(("limits", "Limits") if is_told else ("speed", "Speed"))))
    warnings = len(page.result.calibration.warnings) + len(page.shown.warnings)
    if warnings:
        links.append(Link(f"Read the {warnings} warnings.", "warnings", "Warnings"))
    return links


def _after_pass(page: Page) -> list[Link]:
    shown = page.shown
    text = f"Ship {shown.model_path}: calib attest signs this run, calib promote carries it on."
    links = [Link(text, anchor("candidate", shown.name), "Candidates")]
    flips = shown.flips
    if flips is not None and flips.worsened:
        text = f"Look at what got worse before you sign: {flips.worsened:,} samples."
        links.append(Link(text, "tail", "Tail"))
    return links


def _after_fail(page: Page) -> list[Link]:
    failed = [r for r in _decisive(page) if r.verdict == "FAIL"]
    links = []
    if any(not r.rule.startswith(_NOT_ACCURACY) for r in failed):
        links.append(Link("See which samples are lost, and what they share.", "tail", "Tail"))
        links.append(Link("See where along the net the error arises.", "layers", "Layers"))
        links.append(
            Link("Let quantization: auto look for what makes INT8 more accurate.", "remedies")
            if page.result.remedies is None
            else Link("See what each remedy gave, and what it left.", "remedies", "Remedies")
        )
    if any(r.rule.startswith(("int8_macs", "execution")) for r in failed):
        links.append(Link("See which nodes did not get INT8, and why.", "engines", "Engines"))
    if any(r.rule.startswith(_SPEED) for r in failed):
        links.append(Link("See where the time goes, and on what it was taken.", "speed", "Speed"))
    kept = [v.candidate for v in page.result.verdict.candidates if v.verdict == "PASS"]
    if kept:
        links.append(Link(f"{', '.join(kept)} keeps all limits.", "candidates", "Candidates"))
    return links


def _after_nothing(page: Page) -> list[Link]:
    rules = [r for r in _decisive(page) if r.verdict == "NO_EVIDENCE"]
    if not rules:
        return [Link("Say in the config, under limits, what must hold.", "config")]
    return [
        Link(f"Give evidence for “{r.title}”: {r.details}.", *evidence_of(r.rule)) for r in rules
    ]
