"""What a kind of task says of itself; the report, the tail, limits and bounds work on that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from data_loaders.types import Array, Sample

A = TypeVar("A")
"""What a kind makes of a model's outputs: an answer."""
T = TypeVar("T")
"""What the answer should have been: a target."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure over many samples.

    Attributes:
        name: of its field in results, e.g. map_pct.
        title: for people.
        unit: "%", "dB" or nothing.
        higher_is_better: the direction.
    """

    name: str
    title: str
    unit: str = "%"
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer beside a target.

    Attributes:
        score: of this sample, in the unit of the kind's `sample_metric`.
        is_right: whether the answer is the target; None where there is no such thing.
        statistics: what this sample adds to the metrics.
    """

    score: float
    is_right: bool | None
    statistics: Any


class Kind(Protocol, Generic[A, T]):
    """A kind of task.

    A kind may also have `reads_all = True`, if a value that is not finite anywhere in its outputs
    spoils the answer; `slices_by_score = True`, if its first metric says little of few samples, so
    that the mean of their scores stands for it; `scores_are_judged = False`, if a sample's score
    alone is neither good nor bad; `by_class(statistics)`, its figure for each class by name; and
    the functions of `HasClasses`, `Gathering`, `Weighing`, `Resting`, `Drawing` and `Collecting`.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that it reads."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it reports, the headline first."""
        ...

    @property
    def sample_metric(self) -> Metric:
        """What the score of one sample is."""
        ...

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> A:
        """What the model says.

        Args:
            outputs: of one sample, without batch axis, by name.
            sample: what it was asked.

        Raises:
            DataError: if the outputs have not the form that this kind reads.
        """
        ...

    def target(self, sample: Sample) -> T | None:
        """What is right; None if the sample has no label.

        Raises:
            DataError: if the label is none of this kind's.
        """
        ...

    def target_from_answer(self, answer: A) -> T:
        """FP32's answer taken for the truth, where there is no label, or agreement is asked."""
        ...

    def compare(self, answer: A, target: T) -> Comparison:
        """Judge one answer."""
        ...

    def is_same(self, first: A, second: A) -> bool:
        """Whether two answers would be the same to who reads them."""
        ...

    def summarise(
        self, statistics: Sequence[Any], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """The metrics over samples, by name; NaN where they say nothing.

        Args:
            statistics: of `compare`, one a sample.
            weights: how often each sample counts; once, if absent. A bootstrap gives others.
        """
        ...

    def words(self, answer: A) -> str:
        """An answer in a few words."""
        ...

    def target_words(self, target: T) -> str:
        """A target in a few words."""
        ...


@runtime_checkable
class HasClasses(Protocol):
    """A kind with a figure for each class that a bootstrap can bound."""

    def by_class(
        self, statistics: Any, weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """The figure of each class that occurs, by name; higher is better."""
        ...

    def class_samples(self, statistics: Any) -> dict[str, int]:
        """How many samples each of these figures rests on."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """A kind that puts statistics together once, so that weighing them often costs little."""

    def gathered(self, statistics: Sequence[Any]) -> Any:
        """What `summarise` and `by_class` take in place of the statistics; it has a length."""
        ...


@runtime_checkable
class Weighing(Protocol):
    """A kind that weighs samples for many resamples at once, as it would take long one by one."""

    def weighed(
        self, statistics: Any, weights: NDArray[np.float64]
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Metrics and figures of classes by name, float64 (resamples,) each.

        Args:
            statistics: as `gathered` gives them.
            weights: how often each sample counts, float64 (resamples, samples).
        """
        ...


@runtime_checkable
class Resting(Protocol):
    """A kind some of whose metrics rest on a part of the samples."""

    def rests_on(self, statistics: Any) -> dict[str, int]:
        """How many samples these metrics rest on, by metric; the others rest on all."""
        ...


@runtime_checkable
class Drawing(Protocol):
    """A kind whose answers can be shown in the sample's picture."""

    def draw(self, png: bytes, sample: Sample, reference: Any, own: Any) -> bytes:
        """The thumbnail of the model's input, a PNG, with both answers in it."""
        ...


@runtime_checkable
class Collecting(Protocol):
    """A kind that must see all samples before it can judge one, as a search in a corpus does."""

    def collect(self, outputs: Iterable[tuple[Mapping[str, Array], Sample]]) -> None:
        """See every sample of one engine; `answer` is asked afterwards."""
        ...

    def is_judged(self, sample: Sample) -> bool:
        """Whether the sample is one to judge, after all were collected."""
        ...


def stacked(statistics: Any) -> NDArray[np.float64]:
    """Statistics of one shape as one array, (samples, …); as it is where it is one already."""
    return statistics if isinstance(statistics, np.ndarray) else np.stack(statistics)


def weighted_sum(
    statistics: Sequence[NDArray[np.float64]] | NDArray[np.float64],
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """The sum of statistics of one shape, each as often as its weight; zeros if there are none."""
    if not len(statistics):
        return np.zeros(0)
    table = stacked(statistics)
    if weights is None:
        return np.asarray(table.sum(axis=0), dtype=np.float64)
    return np.tensordot(weights, table, axes=1)


def percent(part: float, whole: float) -> float:
    """A share in per cent; NaN of nothing."""
    return 100 * part / whole if whole else float("nan")


def output_of(outputs: Mapping[str, Array], name: str, sample: Sample) -> Array:
    """One output, finite throughout.

    Raises:
        DataError: if the model does not have it.
    """
    if name not in outputs:
        raise DataError(
            f"sample {sample.id}",
            "the task reads an output that the model has not",
            got=name,
            expected=", ".join(outputs),
        )
    return outputs[name]


def refuse(sample: Sample, problem: str, got: object, expected: str) -> DataError:
    """An error that names the sample."""
    return DataError(f"sample {sample.id}", problem, got=str(got), expected=expected)
