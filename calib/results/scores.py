"""What a candidate's answers came to: over all samples, by class, by slice, against a rival."""

from pydantic import Field

from calib.record import Record
from calib.results.kinds import TaskKind
from calib.results.metrics import ClassMetric, MetricScore


class ClassScore(Record):
    """One class: how many of its samples are recognised."""

    name: str
    samples: int
    recall_pct: float
    reference_recall_pct: float
    worsened: int | None = Field(default=None, description="FP32 right, candidate wrong.")
    improved: int | None = Field(default=None, description="FP32 wrong, candidate right.")


class SliceScore(Record):
    """The labelled samples of one slice, and what became of them."""

    family: str = Field(description="What the data was sliced by: class, length, a column, …")
    name: str = Field(description="Which of them, e.g. a value or a range.")
    samples: int
    right: int = Field(description="FP32 and the candidate right.")
    worsened: int = Field(description="FP32 right, candidate wrong.")
    improved: int = Field(description="FP32 wrong, candidate right.")
    flips: int = Field(description="Predictions unlike FP32's.")
    figure: MetricScore | None = Field(
        default=None,
        description="What the kind's first metric is on the slice, or the mean of its samples' "
        "scores where that says more of few samples; None of classification, which counts.",
    )


class FoundSlice(Record):
    """A slice that a search came upon; exploratory, no limit is held against it."""

    condition: str = Field(description="What its samples have in common, for a person to read.")
    samples: int = Field(description="Of the half of the data that the search did not see.")
    worsened: int
    improved: int
    rest_samples: int = Field(description="All other samples of that half.")
    rest_worsened: int
    rest_improved: int
    loss: float | None = Field(
        default=None,
        description="Mean loss of the samples' scores, where these were searched; above 0 is "
        "worse.",
    )
    rest_loss: float | None = Field(default=None, description="The same of all other samples.")
    score: str = Field(default="", description="What a sample's score is, in words.")
    p_value: float = Field(
        description="Chance of so much more loss than elsewhere, were there none; Holm-corrected "
        "for the number of slices shown."
    )


class PairedScore(Record):
    """The candidate against another one than FP32, on the same labelled samples."""

    rival: str
    samples: int
    right: int = Field(description="Both right.")
    worsened: int = Field(description="The rival right, the candidate wrong.")
    improved: int = Field(description="The rival wrong, the candidate right.")


class TaskScore(Record):
    """The task metrics of one candidate against labels; `reference_*` are FP32's."""

    kind: TaskKind
    samples: int
    accuracy_pct: float | None = None
    reference_accuracy_pct: float | None = None
    macro_recall_pct: float | None = None
    reference_macro_recall_pct: float | None = None
    classes: tuple[ClassScore, ...] = ()
    mean_abs_error: float | None = None
    reference_mean_abs_error: float | None = None
    root_mean_square_error: float | None = None
    reference_root_mean_square_error: float | None = None
    mean_cosine: float | None = Field(
        default=None, description="Embedding: mean cosine to FP32's embedding of the same sample."
    )
    worst_cosine: float | None = None
    sample_errors: tuple[tuple[float, float], ...] = Field(
        default=(),
        description="Regression: mean absolute error of each sample, the candidate's and FP32's.",
    )
    sample_cosines: tuple[float, ...] = Field(
        default=(), description="Embedding: cosine of each sample."
    )
    sample_score: str = Field(
        default="margin", description="What a sample's margin is, in words: an error is negated."
    )
    sample_score_unit: str = Field(default="", description="Of a sample's margin; % or nothing.")
    sample_score_negated: bool = Field(
        default=False, description="Whether lower is better, so that a margin has a minus before."
    )
    reference_right: int | None = Field(
        default=None,
        description="Labelled samples that FP32 has right; None where there is no right and wrong.",
    )
    metrics: tuple[MetricScore, ...] = Field(
        default=(), description="The kind's own, against labels, the headline first."
    )
    agreement: tuple[MetricScore, ...] = Field(
        default=(), description="The same with FP32's answers taken for the truth."
    )
    by_class: tuple[ClassMetric, ...] = Field(
        default=(), description="The kind's figure for each class, where it has classes."
    )
    vanished: tuple[str, ...] = Field(
        default=(), description="Classes that FP32 finds at least in part, and the candidate never."
    )

    @property
    def headline(self) -> MetricScore | None:
        """The first metric against labels, or against FP32's answers where there are none."""
        return next(iter((*self.metrics, *self.agreement)), None)
