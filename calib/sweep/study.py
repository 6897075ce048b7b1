"""Which point comes next, and what came of each: the one door to optuna.

The storage is one file that grows by a line each, under the lock of the sweep that writes it; a
line that was cut off when a sweep was killed is left out. Each proposal is drawn with a seed of its
own, out of the sweep's seed and the number of points that are known, so that a sweep that was
broken off proposes what it would have proposed, and what was running then is tried again. (`nsga2`
counts generations otherwise, and only goes on.)
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from calib.errors import ConfigError, StoreError
from calib.specs.sweep import SweepSpec
from calib.store import digest_from_key
from calib.sweep.distributions import distribution, param_of, text_of
from calib.sweep.space import Point, Space

_RUN, _SECONDS, _SINCE = "run", "seconds", "since"
_ATTEMPTS = 50
"""Proposals of points that are known already, before they are drawn at random; and as many then."""
_COUNTED = 100_000
"""Points of a space that are gone through one by one for those that are left."""
_DIRECTIONS = ("minimize", "minimize")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point to try, and optuna's number of it."""

    number: int
    point: Point


@dataclass(frozen=True, slots=True)
class Done:
    """A point that was tried, and its run; no time where an earlier run was taken."""

    number: int
    point: Point
    run_id: str
    seconds: float | None


def require_optuna() -> None:
    """Say what to install where optuna is missing.

    Raises:
        ConfigError: if it is.
    """
    if find_spec("optuna") is None:
        raise ConfigError(
            "calib sweep", "needs the package optuna", fix="Run: pip install 'calib[sweep]'."
        )


def sampler_of(spec: SweepSpec, space: Space) -> str:
    """The sampler by name, `auto` settled.

    Raises:
        ConfigError: if a grid is asked for that has no end, or more points than trials.
    """
    size = space.size
    if spec.sampler == "grid" and (size is None or size > spec.trials):
        points = "without end: a range has no steps" if size is None else f"{size:,} points"
        raise ConfigError(
            "sweep.sampler",
            "grid takes each point of the space once, and there are too many",
            got=points,
            expected=f"{spec.trials:,} at most, as sweep.trials says",
            fix="Raise sweep.trials, give ranges a step, or take another sampler.",
        )
    if spec.sampler != "auto":
        return spec.sampler
    return "grid" if size is not None and size <= spec.trials else "tpe"


class Study:
    """The trials of one space on one experiment, model and data."""

    def __init__(
        self, file: Path, key: str, spec: SweepSpec, space: Space, *, restart: bool = False
    ) -> None:
        """Open it, or begin it; what was running when a sweep was killed has failed.

        Args:
            file: the storage.
            key: of the experiment, the model and the data.
            spec: the sweep.
            space: its space, the default one filled in.
            restart: forget every trial of that key.

        Raises:
            StoreError: if the file cannot be written, or is no storage of optuna's.
        """
        self._optuna = _optuna()
        self._spec, self._space = spec, space
        self._sampler = sampler_of(spec, space)
        self._distributions = {
            path: distribution(self._optuna, axis) for path, axis in space.axes.items()
        }
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open(file, key, restart)
        except Exception as error:  # of whatever stands between optuna and the disk
            raise StoreError(
                str(file),
                f"cannot be used as the storage of a sweep: {str(error).splitlines()[0]}",
                fix="Give --restart, or remove the file: finished runs are kept elsewhere.",
            ) from error
        self._known: dict[tuple[str, ...], Done] = {}
        self._proposed: set[tuple[str, ...]] = set()
        self._running: dict[int, Any] = {}
        self._read()

    def _open(self, file: Path, key: str, restart: bool) -> None:
        """Studies of one key share their runs; `since` when the first of them was begun."""
        _cut_to_whole_lines(file)
        backend = self._optuna.storages.journal.JournalFileBackend(str(file), _Held())
        storage = self._optuna.storages.JournalStorage(backend)
        kept = []
        for found in self._optuna.get_all_study_summaries(storage, include_best_trial=False):
            if found.study_name.startswith(f"{key}-"):
                if restart:
                    self._optuna.delete_study(study_name=found.study_name, storage=storage)
                else:
                    kept.append(str(found.user_attrs[_SINCE]))
        own = digest_from_key({path: axis.model_dump() for path, axis in self._space.axes.items()})
        self._study = self._optuna.create_study(
            storage=storage,
            study_name=f"{key}-{own[:16]}",
            directions=_DIRECTIONS,
            load_if_exists=True,
        )
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.since = min(kept, default=now)
        if _SINCE not in self._study.user_attrs:
            self._study.set_user_attr(_SINCE, self.since)

    def _read(self) -> None:
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False):
            point = self._point(trial.params)
            run = trial.user_attrs.get(_RUN)
            if run is not None:
                done = Done(trial.number, point, run, trial.user_attrs.get(_SECONDS))
                self._known.setdefault(_key(point), done)
            elif trial.state == state.RUNNING:
                self._study.tell(trial.number, state=state.FAIL)

    @property
    def done(self) -> tuple[Done, ...]:
        """The points that have a run, in the order in which they were proposed."""
        return tuple(sorted(self._known.values(), key=lambda done: done.number))

    def forget(self, done: Done) -> None:
        """Its run is gone: the point is to be tried again."""
        del self._known[_key(done.point)]

    def propose(self, count: int) -> tuple[Proposal, ...]:
        """Up to `count` points that were not tried; fewer where the space or the trials end."""
        proposals: list[Proposal] = []
        while len(proposals) < count:
            number = len(self._known.keys() | self._proposed)
            proposal = self._next(number) if number < self._spec.trials else None
            if proposal is None:
                break
            self._proposed.add(_key(proposal.point))
            proposals.append(proposal)
        return tuple(proposals)

    def finish(
        self, proposal: Proposal, run_id: str, seconds: float | None, values: Sequence[float] | None
    ) -> None:
        """A proposal has a run; without values, it teaches the sampler nothing."""
        number = proposal.number
        for name, value in ((_RUN, run_id), (_SECONDS, seconds)):
            self._running[number].set_user_attr(name, value)
        self._tell(number, values)
        self._known[_key(proposal.point)] = Done(number, proposal.point, run_id, seconds)

    def fail(self, proposal: Proposal) -> None:
        """A proposal has no run; a later sweep tries it again."""
        self._tell(proposal.number, None)

    def _next(self, ordinal: int) -> Proposal | None:
        if self._sampler == "grid":
            left = (p for p in self._space.points() if not self._is_taken(p))
            point_left = next(left, None)
            return None if point_left is None else self._asked(point_left)
        if self._space.size is not None and self._taken_points() >= self._space.size:
            return None
        for attempt in range(2 * _ATTEMPTS):
            proposal = self._drawn(ordinal, attempt)
            if not self._is_taken(proposal.point):
                return proposal
            self._tell(proposal.number, None)
        return self._any(ordinal)

    def _drawn(self, ordinal: int, attempt: int) -> Proposal:
        seed = np.random.SeedSequence([self._spec.seed, ordinal, attempt]).generate_state(1)
        name = self._sampler if attempt < _ATTEMPTS else "random"
        self._study.sampler = self._made_sampler(name, int(seed[0]))
        return self._ask()

    def _any(self, ordinal: int) -> Proposal | None:
        """A point that was not tried, where nearly all were; None where they cannot be counted."""
        if self._space.size is None or self._space.size > _COUNTED:
            return None
        chosen = random.Random(f"{self._spec.seed} {ordinal}")  # noqa: S311 - no secret
        left = [point for point in self._space.points() if not self._is_taken(point)]
        return self._asked(chosen.choice(left)) if left else None

    def _asked(self, point: Point) -> Proposal:
        """This very point as a trial of optuna's."""
        params = {path: param_of(self._space.axes[path], text) for path, text in point.items()}
        self._study.enqueue_trial(params)
        return self._ask()

    def _ask(self) -> Proposal:
        trial = self._study.ask(self._distributions)
        self._running[trial.number] = trial
        return Proposal(trial.number, self._point(trial.params))

    def _made_sampler(self, name: str, seed: int) -> Any:
        samplers = self._optuna.samplers
        if name == "random":
            return samplers.RandomSampler(seed=seed)
        if name == "nsga2":
            size = max(2, min(50, self._spec.trials // 4))
            return samplers.NSGAIISampler(seed=seed, population_size=size)
        return samplers.TPESampler(seed=seed)

    def _tell(self, number: int, values: Sequence[float] | None) -> None:
        self._running.pop(number, None)
        if values is None:
            self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(number, list(values))

    def _point(self, params: Mapping[str, Any]) -> Point:
        axes = self._space.axes
        return {path: text_of(axis, params[path]) for path, axis in axes.items() if path in params}

    def _is_taken(self, point: Point) -> bool:
        return _key(point) in self._known or _key(point) in self._proposed

    def _taken_points(self) -> int:
        return len(self._known.keys() | self._proposed)


class _Held:
    """The file's lock, in the form that optuna wants: whoever opens a study holds one already."""

    def acquire(self) -> bool:
        """See optuna's `BaseJournalFileLock`."""
        return True

    def release(self) -> None:
        """See optuna's `BaseJournalFileLock`."""


def _cut_to_whole_lines(file: Path) -> None:
    """Leave out a last line that was cut off: optuna would write the next one behind it.

    Raises:
        ValueError: if that is no line of optuna's.
    """
    content = file.read_bytes() if file.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return
    if not content[whole:].startswith(b"{"):
        raise ValueError("it holds something else")
    with file.open("r+b") as opened:
        opened.truncate(whole)


def _optuna() -> ModuleType:
    require_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _key(point: Point) -> tuple[str, ...]:
    return tuple(f"{path}={text}" for path, text in sorted(point.items()))
