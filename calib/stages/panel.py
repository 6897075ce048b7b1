"""A part of the calibration samples that no remedy is fitted on, to judge remedies by.

FP32's own scores are the target, so no labels are needed, and validation is not touched.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.analysis.flips import expected_flips_pct, margins, variance_for_flips
from calib.analysis.scores import (
    centred_scores,
    changed_decisions,
    decisions_from_output,
    known_scores,
    squares_by_sample,
)
from calib.backends.base import Engine
from calib.errors import ConfigError
from calib.graph.load import Graph
from calib.graph.scores import Score, scores_from_model
from calib.graph.taps import tapped
from calib.results import ModelPrecision
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from data_loaders import Batch, Sample
from data_loaders.types import Array

_SHARE = 4
"""Every fourth sample or so is kept aside."""
KEPT_MAX = 128
_SCORE_BYTES_MAX = 1 << 26


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far a model's outputs are from FP32's.

    Attributes:
        noise: Σ error² / Σ reference², the mean over the model's scores; infinite if not finite.
        changed: samples whose largest score is another one, in the task's output.
        samples: compared.
        by_sample: float64 (samples,): Σ error² of each over the signal of all, added over scores;
            of a whole batch where a score has no batch axis.
    """

    noise: float
    changed: int
    samples: int
    by_sample: NDArray[np.float64]

    def is_below(self, other: "OutputError", gain_db: float) -> bool:
        """Whether the error is less than another's by so much, and by more than chance.

        The same samples under both: the mean of the differences, against its standard error.
        """
        if not math.isfinite(other.noise):
            return math.isfinite(self.noise)
        fall = other.by_sample - self.by_sample
        if not np.isfinite(fall).all() or self.sqnr_db <= other.sqnr_db + gain_db:
            return False
        return (
            bool(fall.mean() > fall.std(ddof=1) / math.sqrt(len(fall))) if len(fall) > 1 else True
        )

    @property
    def sqnr_db(self) -> float:
        """-10·log10(noise); infinite if exact, minus infinity if something is not finite."""
        if not math.isfinite(self.noise):
            return -math.inf
        return -10 * math.log10(self.noise) if self.noise > 0 else math.inf


@dataclass(slots=True)
class Panel:
    """The kept samples, FP32's scores for them, and how often they were used.

    Attributes:
        batches: of the kept samples.
        scores: the tensors that are compared.
        reference: FP32's values of them by name, a batch each.
        decisions: FP32's largest score in the task's output by sample; None where it has no scores.
        task_output: the output that decides.
        task_score: where it is a classification's: what stands for it.
        axes: of the batch, by score.
        task_axis: of the batch, in the task's output.
        judged: samples run so far, those of every variant.
    """

    bench: Workbench
    batches: tuple[Batch, ...]
    scores: tuple[Score, ...]
    reference: tuple[Mapping[str, Array], ...]
    decisions: tuple[Array | None, ...]
    task_output: str
    task_score: Score | None
    axes: Mapping[Score, int | None]
    task_axis: int | None
    judged: int = 0

    @property
    def samples(self) -> int:
        """How many were kept aside."""
        return sum(len(batch) for batch in self.batches)

    def expected_flips_pct(self, noise: float) -> float | None:
        """Per cent of a classification's predictions that this noise is expected to change."""
        if self.task_score is None:
            return None
        margin, power = self._margins(self.task_score)
        return expected_flips_pct(margin, noise * power)

    def noise_for_flips(self, flips_pct: float) -> float:
        """The most noise that is expected to change no more than that; infinite elsewhere."""
        if self.task_score is None:
            return math.inf
        margin, power = self._margins(self.task_score)
        return variance_for_flips(margin, flips_pct) / power if power else math.inf

    def _margins(self, score: Score) -> tuple[NDArray[np.float64], float]:
        """FP32's margins, and the mean square of its scores."""
        raw = [reference[score.tensor] for reference in self.reference]
        known = [known_scores(array) for array in raw]
        arrays = [centred_scores(a, score.axis, k) for a, k in zip(raw, known, strict=True)]
        values = sum(a.size if k is None else int(k.sum()) for a, k in zip(raw, known, strict=True))
        power = sum(float(np.square(array).sum()) for array in arrays) / max(values, 1)
        return np.concatenate([margins(array) for array in raw]), power

    def exposed(self, graph: Graph) -> Graph:
        """A copy of a variant of the model that shows the scores."""
        return tapped(graph, [score.tensor for score in self.scores])

    def judge(self, graph: Graph, samples: int | None = None) -> OutputError:
        """Run a model as it is; see `judge_engine`."""
        with self.bench.engine(self.exposed(graph)) as engine:
            return self.judge_engine(engine, samples=samples)

    def judge_engine(
        self,
        engine: Engine,
        settings: Mapping[str, Array] | None = None,
        samples: int | None = None,
    ) -> OutputError:
        """Run an engine, with inputs beside the samples' own, on the first samples or on all.

        Args:
            engine: of an `exposed` graph.
            settings: further inputs.
            samples: about how many; all if None.
        """
        signal = dict.fromkeys(self.scores, 0.0)
        noise = dict.fromkeys(self.scores, 0.0)
        changed = seen = 0
        squares: list[dict[Score, NDArray[np.float64]]] = []
        for batch, reference, decided, found in self._runs(engine, settings, samples):
            squares.append({})
            for score in self.scores:
                known = known_scores(reference[score.tensor])
                wanted = centred_scores(reference[score.tensor], score.axis, known)
                with np.errstate(invalid="ignore", over="ignore"):
                    own = centred_scores(found[score.tensor], score.axis, known)
                    error = np.square(own - wanted)
                signal[score] += float(np.square(wanted).sum())
                noise[score] += float(error.sum())
                squares[-1][score] = squares_by_sample(error, len(batch), self.axes.get(score))
            own_decisions = decisions_from_output(found[self.task_output], self.task_axis)
            changed += changed_decisions(decided, own_decisions)
            seen += len(batch)
        used = [score for score in self.scores if signal[score] > 0]
        share = sum(noise[score] / signal[score] for score in used) / max(len(used), 1)
        each = [sum((found[s] / signal[s] for s in used), np.zeros(1)) for found in squares]
        return OutputError(
            share if math.isfinite(share) else math.inf, changed, seen, np.concatenate(each)
        )

    def _runs(
        self, engine: Engine, settings: Mapping[str, Array] | None, samples: int | None
    ) -> Iterator[tuple[Batch, Mapping[str, Array], Array | None, Mapping[str, Array]]]:
        left = self.samples if samples is None else samples
        kept = zip(self.batches, self.reference, self.decisions, strict=True)
        for batch, reference, decided in kept:
            if left <= 0:
                return
            yield batch, reference, decided, engine.infer({**batch.inputs, **(settings or {})})
            self.judged += len(batch)
            left -= len(batch)


def open_panel(bench: Workbench, inputs: Inputs, graph: Graph) -> Panel:
    """Keep samples aside and run FP32 on them, as it was given.

    Args:
        bench: the backend.
        inputs: the model and the calibration samples.
        graph: what variants are made from; scores must be in it too.

    Raises:
        ConfigError: if that leaves none to fit on, or none to judge by.
    """
    kept: list[Batch] = []
    reference: list[Mapping[str, Array]] = []
    room = float(_SCORE_BYTES_MAX)
    count = 0
    task = inputs.task_output.name
    task_axis = inputs.axes.outputs[task]
    scores = _scores(inputs.model.graph, graph)
    decisions: list[Array | None] = []
    with _reference_engine(bench, inputs, [score.tensor for score in scores]) as engine:
        for batch in _batches(inputs, kept=True):
            found = engine.infer(batch.inputs)
            outputs = {score.tensor: found[score.tensor].copy() for score in scores}
            room -= sum(array.nbytes for array in outputs.values())
            if kept and room < 0:
                break
            kept.append(batch)
            reference.append(outputs)
            decisions.append(decisions_from_output(found[task], task_axis))
            count += len(batch)
            if count >= KEPT_MAX:
                break
    if count in (0, inputs.calibration.scan.samples):
        raise ConfigError(
            "data.calibration",
            "holds too few samples: a part is kept aside to judge what is fitted on the others",
            got=f"{count} of {inputs.calibration.scan.samples} kept aside",
            fix="Give some hundred samples, or do without quantization: auto and calibrator auto.",
        )
    return Panel(
        bench,
        tuple(kept),
        scores,
        tuple(reference),
        tuple(decisions),
        task,
        _task_score(bench, inputs, scores, reference[0]),
        _axes(inputs, scores),
        task_axis,
    )


def _axes(inputs: Inputs, scores: tuple[Score, ...]) -> dict[Score, int | None]:
    """A score has its batch where the output that it stands for has it."""
    outputs = inputs.axes.outputs
    found: dict[Score, int | None] = {}
    for output, score in scores_from_model(inputs.model.graph).items():
        for own in {score, Score(output)} & {*scores}:
            found.setdefault(own, outputs[output])
    return found


def _task_score(
    bench: Workbench, inputs: Inputs, scores: tuple[Score, ...], reference: Mapping[str, Array]
) -> Score | None:
    """What stands for the task's output, where two classes or more lie along its last axis."""
    name, shape = inputs.task_output.name, inputs.task_output.shape
    if bench.experiment.task.kind != "classification" or not shape:
        return None
    found = scores_from_model(inputs.model.graph).get(name)
    score = found if found in scores else Score(name)
    if score is None or score not in scores or score.axis not in (None, -1, len(shape) - 1):
        return None
    values = reference[score.tensor]
    return score if values.ndim and values.shape[-1] > 1 else None


def _scores(original: Graph, graph: Graph) -> tuple[Score, ...]:
    """What both the model as it was given and the graph that variants are made from have."""
    first, second = scores_from_model(original), scores_from_model(graph)
    found = (first[n] if first[n] == second.get(n) else Score(n) for n in first)
    return tuple(dict.fromkeys(found))


def _reference_engine(
    bench: Workbench, inputs: Inputs, tensors: list[str]
) -> AbstractContextManager[Engine]:
    shown = {*tensors} <= {value.name for value in inputs.model.graph.graph.outputs}
    # What FP16 loses is no loss of INT8: remedies are held against the FP32 copy then.
    if shown and inputs.model.record.precision is ModelPrecision.FP32:
        return bench.backend.engine(inputs.model.reference or inputs.model.path)
    return bench.engine(tapped(inputs.model.graph, tensors))


def fitting_batches(inputs: Inputs, batch_size: int) -> Iterator[Batch]:
    """The calibration samples that remedies are fitted on: all that are never kept aside."""
    return _batches(inputs, kept=False, batch_size=batch_size)


def _batches(inputs: Inputs, *, kept: bool, batch_size: int | None = None) -> Iterator[Batch]:
    chosen = (sample for sample in inputs.calibration.data if _is_kept(sample) is kept)
    return inputs.calibration.batches(chosen, batch_size)


def _is_kept(sample: Sample) -> bool:
    """By a hash of the id, so that no order of the samples changes it."""
    return zlib.crc32(sample.id.encode()) % _SHARE == 0
