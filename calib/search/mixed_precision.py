"""The smallest part of a model that has to stay in float.

The groups are ranked by the noise that each makes alone for what it costs, and left in float in
that order where the measured noise falls by enough: combinations are measured, never added up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Measure = Callable[[frozenset[str]], float]
"""The noise at the model's output with these groups in float, all others in INT8."""

_NOISE_FOR_SHARE = 3.0
"""Below the goal, a group stays in float if the noise falls by so many times its share of MACs."""
_FALL_MIN = 0.004
"""Falls of less are the samples' own noise."""
_HOPELESS = 0.5
"""A group that alone makes less than this part of the fall that is needed is not tried."""
_CHEAP = 0.002
"""Groups of fewer MACs than this share are ranked as if they had it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """When to stop.

    Attributes:
        noise: what is asked for, Σ error² / Σ reference².
        free: share of the MACs that may stay in float wherever it pays, 0 to 1.
        most: share that may, to reach the goal.
        spent: share of the MACs that is in float already, by no choice of groups.
    """

    noise: float
    free: float = 0.05
    most: float = 0.2
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One group tried in float on what was kept before.

    Attributes:
        group: its name.
        noise: at the output with it.
        share: of the MACs in float with it.
        kept: whether it stays in float.
    """

    group: str
    noise: float
    share: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The groups left in float, and everything that was tried on the way."""

    floats: frozenset[str]
    noise: float
    trials: tuple[Trial, ...]


def leave_in_float(
    macs: Mapping[str, int], alone: Mapping[str, float], measure: Measure, goal: Goal, tries: int
) -> Found:
    """Choose groups to leave in float.

    Args:
        macs: by group.
        alone: noise of each group in INT8 alone.
        measure: what is held against the goal.
        goal: when to stop.
        tries: measurements at most; the best so far is returned then.
    """
    total = max(sum(macs.values()), 1) / (1 - goal.spent)
    order = sorted(macs, key=lambda g: -alone[g] / max(macs[g] / total, _CHEAP))
    floats: frozenset[str] = frozenset()
    share, noise = goal.spent, measure(floats)
    trials: list[Trial] = []
    for group in order:
        after = share + macs[group] / total
        reached = noise <= goal.noise
        if after > (goal.free if reached else goal.most) or alone[group] <= 0:
            continue
        if len(trials) >= tries:
            break
        needed = max(_FALL_MIN, _NOISE_FOR_SHARE * macs[group] / total if reached else 0.0)
        if alone[group] < noise * needed * _HOPELESS:
            continue
        found = measure(floats | {group})
        fall = 1 - found / noise if noise > 0 else 0.0
        trials.append(Trial(group, found, after, fall >= needed))
        if trials[-1].kept:
            floats, share, noise = floats | {group}, after, found
    return Found(*_given_back(macs, floats, noise, measure, goal), tuple(trials))


def _given_back(
    macs: Mapping[str, int], floats: frozenset[str], noise: float, measure: Measure, goal: Goal
) -> tuple[frozenset[str], float]:
    """Groups that the goal can do without go back to INT8, the largest first."""
    total = max(sum(macs.values()), 1) / (1 - goal.spent)
    for group in sorted(floats, key=lambda g: -macs[g]):
        spent = goal.spent + sum(macs[g] for g in floats) / total
        if noise > goal.noise or spent <= goal.free:
            break
        found = measure(floats - {group})
        if found <= goal.noise:
            floats, noise = floats - {group}, found
    return floats, noise
