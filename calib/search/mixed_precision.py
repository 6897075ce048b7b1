"""The smallest part of a model that has to stay in float.

The rounding errors of different groups hardly depend on one another: at a model's scores their
noises add up. So the groups are ranked by the noise that each makes alone for what it costs, and
left in float in that order. How many of them it takes is measured, not added up: a few runs along
the order find it. Judging every group by a run of its own on what was kept before would choose by
the noise of the samples: of fifty such choices some look good by chance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Measure = Callable[[frozenset[str]], float]
"""The noise at the model's scores with these groups in float, all others in INT8."""

_NOISE_FOR_SHARE = 3.0
"""Below the goal, a group stays in float if the noise falls by so many times its share of MACs."""
_FALL_MIN = 0.004
"""A group that makes less than this part of the noise stays in INT8 whatever it costs."""
_GIVEN_BACK_TRIES = 6
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
    """A choice that was measured.

    Attributes:
        floats: groups in float.
        noise: at the scores with them.
        share: of the MACs in float with them.
    """

    floats: frozenset[str]
    noise: float
    share: float


@dataclass(frozen=True, slots=True)
class Found:
    """The groups left in float, and everything that was measured on the way."""

    floats: frozenset[str]
    noise: float
    trials: tuple[Trial, ...]


@dataclass(slots=True)
class _Search:
    macs: Mapping[str, int]
    goal: Goal
    measure: Measure
    tries: int
    stopped: Callable[[], bool]
    trials: dict[frozenset[str], Trial] = field(default_factory=dict)

    def share(self, floats: frozenset[str]) -> float:
        total = max(sum(self.macs.values()), 1) / (1 - self.goal.spent)
        return self.goal.spent + sum(self.macs[group] for group in floats) / total

    def of(self, group: str) -> float:
        return self.share(frozenset([group])) - self.goal.spent

    @property
    def is_over(self) -> bool:
        return len(self.trials) >= self.tries or self.stopped()

    def at(self, floats: frozenset[str]) -> Trial:
        if floats not in self.trials:
            self.trials[floats] = Trial(floats, self.measure(floats), self.share(floats))
        return self.trials[floats]


def leave_in_float(
    macs: Mapping[str, int],
    alone: Mapping[str, float],
    measure: Measure,
    goal: Goal,
    tries: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Found:
    """Choose groups to leave in float.

    Args:
        macs: by group.
        alone: noise of each group in INT8 alone.
        measure: what is held against the goal.
        goal: when to stop.
        tries: measurements at most; the best so far is returned then.
        stopped: whether somebody wants the best so far now.
    """
    search = _Search(macs, goal, measure, tries, stopped)
    everything = search.at(frozenset())
    best = everything
    path = _path(search, alone)
    if everything.noise > goal.noise and path:
        best = _given_back(search, _shortest(search, path), alone)
    best = _what_pays(search, best, alone)
    return Found(best.floats, best.noise, tuple(search.trials.values()))


def _path(search: _Search, alone: Mapping[str, float]) -> Sequence[frozenset[str]]:
    """Choices with one group more each, the noisiest for its MACs first, within the share."""
    floats, path = frozenset[str](), []
    left = sum(alone.values())
    for group in _ranked(search, alone):
        after = floats | {group}
        if search.share(after) > search.goal.most or alone[group] < _FALL_MIN * left:
            continue
        floats, left = after, left - alone[group]
        path.append(floats)
    return path


def _ranked(search: _Search, alone: Mapping[str, float]) -> list[str]:
    noisy = [group for group in search.macs if alone[group] > 0]
    return sorted(noisy, key=lambda g: -alone[g] / max(search.of(g), _CHEAP))


def _shortest(search: _Search, path: Sequence[frozenset[str]]) -> Trial:
    """The shortest choice of a path that reaches the goal, by bisection; else its best."""
    low, high = 0, len(path) - 1
    if not search.is_over and search.at(path[high]).noise > search.goal.noise:
        for quarter in (1, 2, 3):
            if not search.is_over:
                search.at(path[quarter * high // 4])
        return _best(search)
    while low < high and not search.is_over:
        middle = (low + high) // 2
        if search.at(path[middle]).noise <= search.goal.noise:
            high = middle
        else:
            low = middle + 1
    return _best(search)


def _best(search: _Search) -> Trial:
    """The least in float that reaches the goal; where nothing does, the least noise."""
    reached = [t for t in search.trials.values() if t.noise <= search.goal.noise]
    if reached:
        return min(reached, key=lambda trial: (trial.share, trial.noise))
    return min(search.trials.values(), key=lambda trial: trial.noise)


def _given_back(search: _Search, best: Trial, alone: Mapping[str, float]) -> Trial:
    """Groups that the goal can do without go back to INT8, the largest first."""
    hopeful = [g for g in best.floats if alone[g] <= search.goal.noise and search.macs[g]]
    for group in sorted(hopeful, key=lambda g: (-search.macs[g], g))[:_GIVEN_BACK_TRIES]:
        if search.is_over or best.noise > search.goal.noise:
            break
        without = search.at(best.floats - {group})
        best = without if without.noise <= search.goal.noise else best
    return best


def _what_pays(search: _Search, best: Trial, alone: Mapping[str, float]) -> Trial:
    """Groups whose noise is worth more than their MACs, within the share that is free."""
    floats, noise = best.floats, best.noise
    for group in _ranked(search, alone):
        after = search.share(floats | {group})
        fall = alone[group] / noise if noise > 0 else 0.0
        pays = fall >= max(_FALL_MIN, _NOISE_FOR_SHARE * search.of(group))
        if group not in floats and after <= search.goal.free and pays:
            floats, noise = floats | {group}, max(noise - alone[group], 0.0)
    if floats == best.floats or search.is_over:
        return best
    more = search.at(floats)
    return more if more.noise < best.noise * (1 - _FALL_MIN) else best
