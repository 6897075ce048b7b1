"""Where a claim's evidence stands on the page, and how sure it is."""

from calib.report.words import anchor, number
from calib.results import RuleVerdict

_EVIDENCE = (
    # The start of a rule's name; where its evidence is; what that is called.
    ("samples_min", "environment", "Data"),
    ("accuracy", "candidates", "Candidates"),
    ("classes_vanished", "classes", "Classes"),
    ("macro_recall", "classes", "Classes"),
    ("worst_class", "classes", "Classes"),
    ("worst_slice", "slices", "Slices"),
    ("flips", "tail", "Tail"),
    ("worsened", "tail", "Tail"),
    ("margin", "tail", "Tail"),
    ("confident", "tail", "Tail"),
    ("saturation", "tail", "Tail"),
    ("mean_abs_error", "candidates", "Candidates"),
    ("embedding", "candidates", "Candidates"),
    ("output", "outputs", "Outputs"),
    ("layer", "layers", "Layers"),
    ("speedup", "speed", "Speed"),
    ("latency", "speed", "Speed"),
    ("size", "candidates", "Candidates"),
    ("int8_macs", "engines", "Engines"),
    ("execution", "engines", "Engines"),
)


def evidence_of(rule: str) -> tuple[str, str]:
    """The anchor of what a rule was judged by, and its name; accuracy if unknown."""
    for start, target, name in _EVIDENCE:
        if rule.startswith(start):
            return target, name
    return "accuracy", "Accuracy"


def rule_anchor(candidate: str, rule: str) -> str:
    """The id of a rule's row among the limits."""
    return anchor("rule", candidate, rule)


def bounds_words(low: float | None, high: float | None, alpha: float | None, unit: str) -> str:
    """Bounds in words; "" if there are none."""
    if low is None or high is None or alpha is None:
        return ""
    level = f"{100 * (1 - alpha):.3g} % bounds"
    return f"{level} {number(low, 3)} to {number(high, 3)} {unit}".strip()


def rule_bounds(rule: RuleVerdict) -> str:
    """The bounds of what a rule found, in words; "" if there are none."""
    return bounds_words(rule.low, rule.high, rule.alpha, rule.unit)
