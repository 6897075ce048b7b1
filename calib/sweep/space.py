"""The settings that a sweep tries, and the experiment that each of them makes."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from calib.config import Experiment
from calib.errors import ConfigError
from calib.settings import parse, read_yaml, with_overrides
from calib.specs.sweep import AxisSpec, SweepSpec

Point = dict[str, str]
"""A value for each path, both as `--set` has them."""

_ALLOWED = ("calibration", "quantization", "engines", "data.calibration", "data.batch_size")
_CALIBRATORS = (
    {"kind": "minmax"},
    {"kind": "entropy"},
    {"kind": "percentile", "percentile": 99.99},
    {"kind": "mse"},
)
_ALL = 4096
"""Spaces up to so many corners are checked whole; of larger ones, each pair of values."""
_WHOLE = {"remedies": "auto", "mixed_precision": "auto"}
"""`quantization: auto` spelled out, so that there is something to set below it."""


def default_space() -> dict[str, AxisSpec]:
    """What is tried where the config names no space: calibrators, with and without remedies."""
    return {
        "calibration.calibrators": AxisSpec(values=tuple([one] for one in _CALIBRATORS)),
        "quantization.remedies": AxisSpec(values=("none", "auto")),
    }


@dataclass(frozen=True)
class Space:
    """The axes by their dotted path, in the order of the config."""

    axes: Mapping[str, AxisSpec]

    @cached_property
    def size(self) -> int | None:
        """Number of its points; None where an axis is a range without steps."""
        texts = [axis.texts for axis in self.axes.values()]
        known = [len(values) for values in texts if values is not None]
        return math.prod(known) if len(known) == len(texts) else None

    def points(self) -> Iterator[Point]:
        """Every point once, the last axis changing first."""
        values = [axis.texts or () for axis in self.axes.values()]
        for combination in itertools.product(*values):
            yield dict(zip(self.axes, combination, strict=True))

    def corners(self) -> Iterator[Point]:
        """What is checked before anything runs: all corners, or each pair of values if too many."""
        values = {path: axis.corners for path, axis in self.axes.items()}
        if math.prod(map(len, values.values())) <= _ALL:
            for combination in itertools.product(*values.values()):
                yield dict(zip(values, combination, strict=True))
            return
        first = {path: texts[0] for path, texts in values.items()}
        for one, other in itertools.combinations(values, 2):
            for pair in itertools.product(values[one], values[other]):
                yield first | dict(zip((one, other), pair, strict=True))

    def described(self) -> dict[str, str]:
        """Each axis for a person to read."""
        return {path: _described(axis) for path, axis in self.axes.items()}


def _described(axis: AxisSpec) -> str:
    if axis.values is not None:
        return ", ".join(axis.texts or ())
    kind = "whole numbers " if axis.int else ""
    step = f" in steps of {axis.step:g}" if axis.step else ""
    return f"{kind}{axis.low:g} to {axis.high:g}{step}{', logarithmic' if axis.log else ''}"


def settings_of(point: Mapping[str, str]) -> list[str]:
    """The point as overrides."""
    return [f"{path}={text}" for path, text in point.items()]


@dataclass(frozen=True)
class Base:
    """The experiment that all trials are variants of.

    Attributes:
        file: its YAML.
        content: what that says, with overrides, and without the sweep.
        experiment: the same, checked.
        spec: the sweep.
        space: what is tried.
        spelled_out: overrides that the points need beside their own.
        is_overridden: whether the content is not what the file says.
    """

    file: Path
    content: dict[str, Any]
    experiment: Experiment
    spec: SweepSpec
    space: Space
    spelled_out: tuple[str, ...] = ()
    is_overridden: bool = False

    def variant(self, point: Mapping[str, str]) -> dict[str, Any]:
        """The YAML's content with a point's settings."""
        return with_overrides(self.content, settings_of(point))

    def trial(self, point: Mapping[str, str]) -> Experiment:
        """The experiment with a point's settings.

        Raises:
            ConfigError: if they make none.
        """
        return parse(Experiment, self.variant(point), self.file)


def read_base(file: Path, overrides: Iterable[str]) -> Base:
    """Read the experiment and its sweep, and check every corner of the space.

    Raises:
        ConfigError: naming the field, or the part of the space, that is wrong.
    """
    given = tuple(overrides)
    content = with_overrides(read_yaml(file), given)
    experiment = parse(Experiment, content, file)
    spec = experiment.sweep or SweepSpec()
    space = Space(spec.space or default_space())
    spelled_out: tuple[str, ...] = ()
    below = any(path.startswith("quantization.") for path in space.axes)
    if content.get("quantization") == "auto" and below:
        content = {**content, "quantization": dict(_WHOLE)}
        spelled_out = ("quantization={remedies: auto, mixed_precision: auto}",)
    content = {key: value for key, value in content.items() if key != "sweep"}
    alone = experiment.model_copy(update={"sweep": None})
    own = any(not text.startswith(("sweep.", "sweep=")) for text in given)
    base = Base(file, content, alone, spec, space, spelled_out, own)
    _check(base)
    return base


def _check(base: Base) -> None:
    for path in base.space.axes:
        if not any(path == own or path.startswith(f"{own}.") for own in _ALLOWED):
            raise ConfigError(
                f"{base.file}: sweep.space.{path}",
                "trials that differ in this cannot be held against each other: a space is of what "
                "makes the INT8 model",
                expected=f"a path below {', '.join(_ALLOWED)}",
                fix="Set it for all trials instead.",
            )
    if base.experiment.limits.judge == "fp16":
        raise ConfigError(
            f"{base.file}: limits.judge",
            "a sweep looks for INT8 settings",
            got="fp16",
            expected="best, all, or an INT8 candidate",
        )
    paths = list(base.space.axes)
    for one, other in itertools.permutations(paths, 2):
        if other.startswith(f"{one}."):
            raise ConfigError(
                f"{base.file}: sweep.space.{other}",
                f"lies below {one}, which is swept too: one would undo the other",
                fix=f"Write the combinations as values of {one}.",
            )
    for path, axis in base.space.axes.items():
        for text in axis.corners:
            _try(base, {path: text}, path, alone=True)
    for point in base.space.corners():
        _try(base, point, "", alone=False)


def _try(base: Base, point: Point, path: str, *, alone: bool) -> None:
    """Whether the point makes an experiment.

    A value that is wrong only beside the config's own other settings is left to the corners.
    """
    try:
        base.trial(point)
    except ConfigError as error:
        if alone and len(base.space.axes) > 1 and not _names(error, path, base.file):
            return
        where = f"{base.file}: sweep.space" + (f".{path}" if path else "")
        place = error.where.removeprefix(f"{base.file}: ")
        problem = f"{', '.join(settings_of(point))} makes no experiment: {place}: {error.problem}"
        fix = error.fix or (
            None
            if alone
            else "Each value must go with all others: write those that belong together as one "
            "value of the part above them."
        )
        raise ConfigError(
            where, problem, got=error.got, expected=error.expected, fix=fix, more=error.more
        ) from error


def _names(error: ConfigError, path: str, file: Path) -> bool:
    """Whether the error is about this path or what lies below it."""
    place = error.where.removeprefix(f"{file}: ").removeprefix("--set ")
    plain = place.replace("[", ".").replace("]", "")
    return plain == path or plain.startswith(f"{path}.")
