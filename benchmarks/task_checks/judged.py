"""What calib makes of two engines' outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.task_checks.cases import Case, Outputs
from calib.analysis.accuracy import Judged, SamplePair, Task, judge_pair
from calib.analysis.tails import Tail
from calib.results import TaskKind
from calib.tasks import kind_from_spec
from calib.tasks.base import Collecting, Kind


@dataclass(frozen=True, slots=True)
class Found:
    """The figures of one comparison.

    Attributes:
        own: the candidate's metrics against the labels, by name.
        reference: FP32's.
        agreement: the candidate's with FP32's answers taken for the truth.
        gone: classes that FP32 finds and the candidate never.
        rights: ids of the samples that FP32 has right, or whose score is good.
        tail: ids, the worst first.
    """

    own: dict[str, float]
    reference: dict[str, float]
    agreement: dict[str, float]
    gone: tuple[str, ...]
    rights: frozenset[str]
    tail: tuple[str, ...]


def compared(case: Case, candidate: Sequence[Outputs]) -> Found:
    """Judge every sample of a case as a run does, without a run's intervals."""
    kind, own_kind = _kind(case, case.reference), _kind(case, candidate)
    task = Task(TaskKind(case.spec.kind), kind, own_kind)  # type: ignore[attr-defined]
    tail = Tail(len(case.samples), kind)
    judged: list[Judged] = []
    for sample, theirs, ours in zip(case.samples, case.reference, candidate, strict=True):
        if not isinstance(kind, Collecting) or kind.is_judged(sample):
            judged.append(judge_pair(task, SamplePair(sample, theirs, ours)))
            tail.add(judged[-1], sample)
    ours = [j.answers.own.statistics for j in judged if j.answers.own]
    theirs = [j.answers.reference.statistics for j in judged if j.answers.reference]
    return Found(
        kind.summarise(ours) if ours else {},
        kind.summarise(theirs) if theirs else {},
        kind.summarise([j.answers.agreement.statistics for j in judged]),
        _gone(kind, ours, theirs),
        frozenset(j.verdict.id for j in judged if _is_right(j)),
        tuple(verdict.id for verdict in tail.ranked()),
    )


def _kind(case: Case, outputs: Sequence[Outputs]) -> Kind[Any, Any]:
    kind = kind_from_spec(case.spec, list(outputs[0]), case.class_names)
    if isinstance(kind, Collecting):
        kind.collect(zip(outputs, case.samples, strict=True))
    return kind


def _gone(kind: Kind[Any, Any], ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[str, ...]:
    by_class = getattr(kind, "by_class", None)
    if by_class is None or not ours:
        return ()
    own = by_class(ours)
    return tuple(
        name for name, value in by_class(theirs).items() if value > 0 and own.get(name, 0) == 0
    )


def _is_right(judged: Judged) -> bool:
    known = judged.answers.reference
    return known is not None and known.is_right is not False
