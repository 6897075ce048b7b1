"""What a sweep will cost, before it starts."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from calib.errors import StoreError
from calib.results import RunResult, StageRecord
from calib.rundir import RUN_IDS, load_result
from calib.sweep.space import Base
from calib.sweep.study import sampler_of

_ALWAYS = frozenset(
    [
        "reference",
        "build fp16",
        "validate fp32",
        "validate fp16",
        "compare fp16",
        "layers of fp16",
        "memory of fp32",
        "memory of fp16",
        "what ran of fp16",
    ]
)
"""Titles of stages that no axis changes."""
_OBSERVING = "calibrate: one pass"
_RECENT = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be tried, and how long it may take.

    Attributes:
        trials: at most.
        size: points of the space; None if it has a range.
        sampler: by name.
        space: values or range, by path.
        shared: what all trials take from the first one.
        estimate: in a sentence.
        seconds: the estimate; None where nothing is known.
    """

    trials: int
    size: int | None
    sampler: str
    space: dict[str, str]
    shared: tuple[str, ...]
    estimate: str
    seconds: float | None

    @property
    def lines(self) -> tuple[str, ...]:
        """For a person to read."""
        points = "a space without end" if self.size is None else f"{self.size:,} points"
        each = "each once" if self.sampler == "grid" else f"chosen by {self.sampler}"
        return (
            f"{self.trials:,} trials of {points}, {each}:",
            *(f"  {path}: {text}" for path, text in self.space.items()),
            f"shared by all: {', '.join(self.shared)}; and every stage whose inputs are the same",
            self.estimate,
        )


def plan_of(base: Base) -> Plan:
    """The plan; nothing is run, no data is read.

    Raises:
        ConfigError: if the sampler does not suit the space.
    """
    sampler, size = sampler_of(base.spec, base.space), base.space.size
    trials = base.spec.trials if size is None else min(base.spec.trials, size)
    shared = ["FP32's outputs", *(["FP16's"] if base.experiment.engines.fp16 else [])]
    if _shares_the_pass(base):
        shared.insert(0, "the pass over the calibration data")
    former = _former(base.experiment.output.reports / base.experiment.name)
    seconds = None
    estimate = "no former run tells how long a trial takes: the line of progress will"
    if former is not None:
        common = sum(s.seconds for s in former.stages if _is_shared(s, base))
        seconds = former.seconds + (trials - 1) * max(0.0, former.seconds - common)
        estimate = (
            f"about {duration(seconds)}: run {former.run_id} took {duration(former.seconds)}, "
            f"{duration(common)} of it for what is shared"
        )
    return Plan(trials, size, sampler, base.space.described(), tuple(shared), estimate, seconds)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shares_the_pass(base: Base) -> bool:
    """Whether no axis changes what is observed, or the model that it is observed on."""
    changing = ("data.", "quantization", "calibration", "engines.fold")
    return not any(
        path.startswith(changing) and not path.startswith("calibration.calibrators")
        for path in base.space.axes
    )


def _is_shared(stage: StageRecord, base: Base) -> bool:
    if stage.name == _OBSERVING:
        return _shares_the_pass(base)
    return stage.name in _ALWAYS


def _former(folder: Path) -> RunResult | None:
    """Of the last runs the one that found least in the store: it tells what a trial costs."""
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    results = []
    for name in [name for name in names if re.fullmatch(RUN_IDS, name)][-_RECENT:]:
        with suppress(StoreError):  # of another version
            results.append(load_result(folder / name))
    return max(results, key=lambda r: _made(r.stages), default=None)


def _made(stages: Sequence[StageRecord]) -> float:
    return sum(stage.seconds for stage in stages if not stage.reused)
