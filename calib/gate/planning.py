"""How many samples an experiment needs, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from calib.gate.facts import Rule
from calib.gate.limits import LimitsSpec
from calib.gate.rules import RULES
from calib.gate.sample_size import POWER, drop_samples, share_samples
from calib.gate.wording import title


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is supposed of the candidate.

    Attributes:
        changed_pct: share of the samples whose answer turns from right to wrong or from wrong to
            right, in %; several, as it is not known.
        drop_points: true loss of accuracy, in points; 0 is a candidate as good as FP32.
        accuracy_pct: FP32's, for limits in % of it.
    """

    changed_pct: tuple[float, ...]
    drop_points: float = 0.0
    accuracy_pct: float = 80.0


@dataclass(frozen=True, slots=True)
class Need:
    """What one limit needs.

    Attributes:
        title: the limit.
        samples: by `Assumed.changed_pct`; None where no number passes the limit.
        unit: what they are.
        note: in place of numbers where nothing can be said beforehand; or a word on them.
    """

    title: str
    samples: tuple[int | None, ...]
    unit: str
    note: str = ""


def plan(
    limits: LimitsSpec, alpha: float, assumed: Assumed, classes: int | None
) -> tuple[Need, ...]:
    """The samples with which each limit is passed with a chance of 80 %, if what is assumed holds.

    Args:
        limits: those that are set are planned for.
        alpha: of each bound.
        assumed: of the candidate.
        classes: their number, where it is known: all must pass, so each needs a better chance.
    """
    found = []
    for rule in RULES:
        limit = getattr(limits, rule.name)
        if limit is not None and (rule.sampled or rule.name == "samples_min"):
            found.append(_need(rule, float(limit), alpha, assumed, classes))
    return tuple(found)


def _need(rule: Rule, limit: float, alpha: float, assumed: Assumed, classes: int | None) -> Need:
    name, unit, note, power = title(rule, limit), "samples", "", POWER
    share = limit / 100
    match rule.name:
        case "samples_min":
            return Need(name, (int(limit),) * len(assumed.changed_pct), unit)
        case "accuracy_drop_points_max":
            pass
        case "accuracy_drop_relative_pct_max":
            share *= assumed.accuracy_pct / 100
            note = f"if FP32's accuracy is {assumed.accuracy_pct:g} %"
        case "macro_recall_drop_points_max":
            note = "with classes of equal size"
        case "worst_class_drop_points_max":
            unit = "samples of each class"
            power = POWER ** (1 / classes) if classes else POWER
            note = f"so that all {classes} pass" if classes else "more, the more classes there are"
        case "worst_slice_drop_points_max":
            unit, note = "samples of each slice", "more, the more slices there are"
        case "flips_pct_max":
            counts = _shares(assumed.changed_pct, share, alpha)
            return Need(name, counts, unit, "if no other predictions change")
        case "worsened_pct_max":
            lost = [(rate + assumed.drop_points) / 2 for rate in assumed.changed_pct]
            return Need(name, _shares(lost, share, alpha), unit)
        case _:
            return Need(name, (), "", "depends on its spread: run it once on what you have")
    counts = tuple(_drop(rate, share, alpha, assumed, power) for rate in assumed.changed_pct)
    return Need(name, counts, unit, note)


def _drop(
    rate_pct: float, limit: float, alpha: float, assumed: Assumed, power: float
) -> int | None:
    rate, drop = rate_pct / 100, assumed.drop_points / 100
    lost, gained = (rate + drop) / 2, (rate - drop) / 2
    if gained < 0 or drop >= limit:
        return None
    return drop_samples(lost, gained, limit, alpha, power)


def _shares(rates_pct: Sequence[float], limit: float, alpha: float) -> tuple[int | None, ...]:
    rates = (rate / 100 for rate in rates_pct)
    return tuple(share_samples(r, limit, alpha) if r < limit else None for r in rates)
