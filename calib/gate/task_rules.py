"""Limits on the metrics of a task: what is lost against FP32, and its bounds."""

import math

from calib.gate.facts import Facts, Found, Measure, Rule, loss_interval
from calib.gate.sample_size import scaled_samples
from calib.gate.task_limits import METRICS
from calib.results import MetricScore, Verdict

_METHOD = "paired percentile bootstrap of the samples, with room for unseen ones"
_NO_LABELS = "no labelled samples of this kind of task"


def metric_loss(name: str) -> Measure:
    """A rule's measure: what one metric loses against FP32."""

    def measure(facts: Facts) -> Found:
        score = facts.candidate.score
        known = {m.name: m for m in score.metrics} if score is not None else {}
        metric = known.get(name)
        if metric is None or score is None or metric.loss is None:
            return Found(None, 0, _NO_LABELS)
        details = f"{metric.value:.4g} against {metric.reference:.4g}"
        samples = score.samples if metric.samples is None else metric.samples
        return _found(metric, metric.loss, samples, details, facts.alpha)

    return measure


def disagreement(facts: Facts) -> Found:
    """What the first metric lacks with FP32's answers for the truth."""
    score = facts.candidate.score
    if score is None or not score.agreement or score.agreement[0].value is None:
        return Found(None, 0, "no answers were compared")
    metric = score.agreement[0]
    if metric.unit != "%" or metric.loss is None:
        return Found(None, 0, f"{metric.title} has no 100 %: agreement is no share of it")
    details = f"{metric.title} {metric.value:.4g} % with FP32's answers for the truth"
    samples = facts.candidate.flips.samples if facts.candidate.flips else score.samples
    return _found(metric, metric.loss, samples, details, facts.alpha)


def classes_vanished(facts: Facts) -> Found:
    """How many classes are never found any more."""
    score = facts.candidate.score
    if score is None or not score.by_class:
        return Found(None, 0, "no labelled samples of a kind that has classes")
    names = ", ".join(score.vanished) or "none"
    return Found(float(len(score.vanished)), score.samples, names)


def _found(metric: MetricScore, loss: float, samples: int, details: str, alpha: float) -> Found:
    if loss == math.inf:  # an output that is no number: no limit bears that
        return Found(loss, samples, details, verdict=Verdict.FAIL)
    found = loss_interval(metric, samples, alpha)
    if found is None:
        return Found(loss, samples, details)

    def needed(limit: float) -> int | None:
        half = found.high - loss if limit >= loss else loss - found.low
        return scaled_samples(samples, half, abs(limit - loss), alpha)

    return Found(loss, samples, details, found, _METHOD, needed)


TASK_RULES: tuple[Rule, ...] = (
    *(
        Rule(field, title, unit, metric_loss(name), sampled=True)
        for field, (name, title, unit) in METRICS.items()
    ),
    Rule("disagreement_points_max", "disagreement with FP32", "points", disagreement, sampled=True),
    Rule("classes_vanished_max", "classes that vanished", "", classes_vanished),
)
