"""What the audit judges: counts and small tables, gathered by a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calib.analysis.profiles import Profiles
from calib.results import CalibrationRecord

INPUT_STATISTICS = ("mean", "deviation", "amax")
"""Of one channel of one sample: the deviation is the standard deviation of its values."""


@dataclass(frozen=True, slots=True)
class InputProfile:
    """A model input over the samples of a split, a few numbers a channel.

    Attributes:
        name: of the input.
        ids: of the samples.
        statistics: float32 (samples, channels, 3): `INPUT_STATISTICS`; of what is no floating-point
            input there are no channels.
        values: values a channel and sample, at least: 1 means that a channel is a single number.
        sizes: int64 (samples, axes): the samples' shapes.
    """

    name: str
    ids: tuple[str, ...]
    statistics: NDArray[np.float32]
    values: int
    sizes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split.

    Attributes:
        samples: how many.
        distinct: of these, with content of their own.
        labelled: of these, with a label.
        classes: samples by class; by FP32's prediction where `predicted`.
        predicted: the classes are predictions, of the samples looked at.
        label_changes: how often one sample's label is not that of the sample before it.
        slices: samples by value, by metadata column.
        inputs: by name.
        profiles: of the samples looked at; None if there are none.
    """

    samples: int
    distinct: int
    labelled: int
    classes: Mapping[str, int]
    predicted: bool = False
    label_changes: int = 0
    slices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    inputs: Mapping[str, InputProfile] = field(default_factory=dict)
    profiles: Profiles | None = None


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """Everything that is judged.

    Attributes:
        calibration: the split that set the thresholds.
        validation: the split that is judged by.
        record: the thresholds, and how they came about.
        known_classes: all classes of the model, if known.
    """

    calibration: SplitFacts
    validation: SplitFacts
    record: CalibrationRecord
    known_classes: tuple[str, ...] = ()
