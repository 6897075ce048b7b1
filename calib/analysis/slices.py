"""Slices of the validation samples: what they have in common, and what became of each."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calib.errors import DataError
from calib.results import MetricScore, PairedScore, SampleVerdict, SliceScore
from data_loaders.types import Sample

CLASS, COLUMNS, LENGTH, BRIGHTNESS, CONFIDENT = (
    "class",
    "columns",
    "length",
    "brightness",
    "confident",
)
_VALUES_MAX = 50
"""A text column with more values than this is no kind of slice: it names the samples."""
_NUMBERS_MIN = 8
"""A numeric column with fewer values than this is sliced by value, not by range."""

Features = Mapping[str, str | float]
"""What is known of one sample beside its label: metadata, length, brightness."""
Figure = Callable[[Sequence[str]], MetricScore | None]


class SlicesSpec(BaseModel):
    """Which slices are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: tuple[str, ...] = Field(
        default=(CLASS, COLUMNS, LENGTH, BRIGHTNESS, CONFIDENT),
        description="`class`; `columns`: every metadata column with few values or of numbers; a "
        "column's name; `length`: size of the inputs' first axis, where samples differ in it; "
        "`brightness`: mean of an input of three axes; `confident`: where FP32 is sure.",
    )
    buckets: int = Field(
        default=4, ge=2, le=20, description="Ranges of a number, with as many samples each."
    )
    confident_at: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="FP32 is sure from this probability of its prediction on.",
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One labelled sample under one candidate.

    Attributes:
        label: the class; empty in a task without classes.
        lost: 1 if FP32 has it right and the candidate wrong, -1 the other way round, else 0.
        both_right: whether both have it right.
        flipped: whether their answers differ.
        probability: that FP32 gave its prediction; None if it gives none.
        rival_right: FP16; None where there is no such answer.
        score_lost: by how much the sample's score is worse than FP32's.
    """

    id: str
    label: str
    lost: int
    both_right: bool
    flipped: bool
    probability: float | None = None
    rival_right: bool | None = None
    score_lost: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether the candidate has it right."""
        return self.both_right or self.lost < 0


def outcome(
    verdict: SampleVerdict, *, has_classes: bool, needs_label: bool = True
) -> Outcome | None:
    """What became of a sample; None without a label.

    Args:
        verdict: of the sample.
        has_classes: whether label and prediction are names of classes: other answers are cut short
            in a verdict, so that FP16's cannot be told right from wrong by them.
        needs_label: whether nothing is known of a sample without a label.
    """
    if verdict.label is None and needs_label:
        return None
    rival = verdict.fp16 if has_classes else None
    return Outcome(
        verdict.id,
        verdict.label or "" if has_classes else "",
        {"worsened": 1, "improved": -1}.get(verdict.flip, 0),
        verdict.prediction == verdict.label and verdict.flip != "improved",
        verdict.flip != "",
        verdict.reference_probability,
        None if rival is None else rival.prediction == verdict.label,
        verdict.margin_loss,
    )


def features(sample: Sample) -> Features:
    """What a sample can be sliced by: its metadata, and what is measured of its inputs.

    `length` is the size of the first axis of the first input that has one, `brightness` the mean of
    the first input of three axes. Metadata of these names goes before.
    """
    found: dict[str, str | float] = {}
    arrays = [np.asarray(array) for array in sample.inputs.values()]
    length = next((a.shape[0] for a in arrays if a.ndim in (1, 2)), None)
    picture = next((a for a in arrays if a.ndim == 3 and a.size), None)
    if length is not None:
        found[LENGTH] = float(length)
    if picture is not None:
        found[BRIGHTNESS] = float(picture.mean(dtype=np.float64))
    return {**found, **sample.metadata}


def assignments(known: Mapping[str, Features], spec: SlicesSpec) -> dict[str, dict[str, str]]:
    """The slice of each sample, by family and id; `class` and `confident` are not among them.

    Numbers are put into ranges that hold about as many samples each.

    Args:
        known: by id.
        spec: which families.

    Raises:
        DataError: if a column that is named is no sample's.
    """
    columns = sorted({name for one in known.values() for name in one})
    measured = {LENGTH, BRIGHTNESS}
    wanted: dict[str, bool] = {}
    for name in spec.by:
        if name in (CLASS, CONFIDENT):
            continue
        if name == COLUMNS:
            wanted |= {c: False for c in columns if c not in measured and c not in wanted}
        elif name in columns or name in measured:
            wanted[name] = name not in measured
        else:
            raise DataError(
                "analysis.slices.by",
                "no validation sample has this column",
                got=name,
                expected=", ".join([CLASS, COLUMNS, LENGTH, BRIGHTNESS, CONFIDENT, *columns]),
                fix="Name it among the loader's slice columns, too.",
            )
    families = {n: _family(known, n, spec.buckets, named=named) for n, named in wanted.items()}
    return {name: family for name, family in families.items() if len({*family.values()}) > 1}


def _family(
    known: Mapping[str, Features], name: str, buckets: int, *, named: bool
) -> dict[str, str]:
    """The slice of each sample by one column; none of a column that slices nothing."""
    values = {sample: one[name] for sample, one in known.items() if name in one}
    different = set(values.values())
    numbers = as_numbers(values)
    if numbers is not None and len(set(numbers.values())) >= _NUMBERS_MIN:
        return _ranges(numbers, buckets)
    if len(different) > _VALUES_MAX and not named:
        return {}
    return {sample: f"{v:g}" if isinstance(v, float) else v for sample, v in values.items()}


def as_numbers(values: Mapping[str, str | float]) -> dict[str, float] | None:
    """The values as finite numbers; None if one of them is none."""
    try:
        numbers = {sample: float(value) for sample, value in values.items()}
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers.values())) else None


def _ranges(numbers: Mapping[str, float], buckets: int) -> dict[str, str]:
    values = np.array(list(numbers.values()))
    # Edges are values that occur: what is the same is never told apart.
    inner = np.quantile(values, np.arange(1, buckets) / buckets, method="inverted_cdf")
    edges = np.unique(inner[inner < values.max()])
    ends = [float(values.min()), *edges.tolist(), float(values.max())]
    names = [
        f"{'from' if i == 0 else 'over'} {low:.4g} to {high:.4g}"
        for i, (low, high) in enumerate(itertools.pairwise(ends))
    ]
    where = np.searchsorted(edges, values, side="left")
    return {sample: names[i] for sample, i in zip(numbers, where.tolist(), strict=True)}


def slice_scores(
    outcomes: Sequence[Outcome],
    families: Mapping[str, Mapping[str, str]],
    spec: SlicesSpec,
    figure: Figure | None = None,
) -> tuple[SliceScore, ...]:
    """What became of the samples of each slice, sorted by family and name.

    Args:
        outcomes: of the labelled samples.
        families: see `assignments`.
        spec: whether by class, and by FP32's confidence.
        figure: the task's own on some samples, by their ids, where counts alone do not tell.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for found in outcomes:
        for key in _slices_of(found, families, spec):
            groups.setdefault(key, []).append(found)
    return tuple(
        _score(*key, group, figure and figure([o.id for o in group]))
        for key, group in sorted(groups.items())
    )


def _slices_of(
    found: Outcome, families: Mapping[str, Mapping[str, str]], spec: SlicesSpec
) -> Iterable[tuple[str, str]]:
    if CLASS in spec.by and found.label:
        yield CLASS, found.label
    if CONFIDENT in spec.by and found.probability is not None:
        sure = found.probability >= spec.confident_at
        yield CONFIDENT, f"{'from' if sure else 'below'} {spec.confident_at:g} in FP32"
    yield from ((name, own[found.id]) for name, own in families.items() if found.id in own)


def _score(
    family: str, name: str, group: Sequence[Outcome], figure: MetricScore | None
) -> SliceScore:
    return SliceScore(
        family=family,
        name=name,
        samples=len(group),
        right=sum(o.both_right for o in group),
        worsened=sum(o.lost > 0 for o in group),
        improved=sum(o.lost < 0 for o in group),
        flips=sum(o.flipped for o in group),
        figure=figure,
    )


def paired_scores(outcomes: Iterable[Outcome], rival: str) -> tuple[PairedScore, ...]:
    """The candidate against a rival that answered the same samples; nothing where none did."""
    pairs = [(o.rival_right, o.is_right) for o in outcomes if o.rival_right is not None]
    if not pairs:
        return ()
    return (
        PairedScore(
            rival=rival,
            samples=len(pairs),
            right=pairs.count((True, True)),
            worsened=pairs.count((True, False)),
            improved=pairs.count((False, True)),
        ),
    )
