"""What a sweep found, from its runs: figures, verdicts, the front, the trial to take."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from calib.advice import is_for_tensorrt
from calib.results import RunResult, SweepRecord, TrialRecord, Verdict
from calib.results.metrics import QUANTILES
from calib.sweep.judge import ACCURACY, COST, Figures, basis, choices, figures_of, front
from calib.sweep.labels import labels
from calib.sweep.space import Base, settings_of

_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.NO_EVIDENCE: 2, Verdict.FAIL: 3}
_LEARNS = ("tpe", "nsga2")


@dataclass(frozen=True, slots=True)
class Trial:
    """A point that was tried.

    Attributes:
        settings: the point.
        result: its run; None if there is none.
        seconds: what that took; None if it was there before.
        problem: why there is none.
    """

    settings: Mapping[str, str]
    result: RunResult | None
    seconds: float | None = None
    problem: str = ""


def sweep_record(base: Base, sampler: str, started_at: str, trials: Sequence[Trial]) -> SweepRecord:
    """Everything that the pages and the terminal show.

    Args:
        base: the experiment and the space.
        sampler: by name.
        started_at: ISO 8601.
        trials: in the order in which they were proposed.
    """
    limits = base.experiment.limits
    results = [trial.result for trial in trials if trial.result is not None]
    count = choices(results, limits)
    found = [figures_of(t.result, limits, count) if t.result else None for t in trials]
    known = [f for f in found if f is not None]
    bases = basis(known, ACCURACY), basis(known, COST)
    names = labels([trial.settings for trial in trials])
    records = [
        _trial(number, trial, name, figures, bases)
        for number, (trial, name, figures) in enumerate(zip(trials, names, found, strict=True), 1)
    ]
    records = _with_front(_with_twins(records))
    winner = _winner(records)
    best = winner or _nearest(records)
    alpha = limits.alpha / count
    return SweepRecord(
        experiment=base.experiment.name,
        started_at=started_at,
        space=base.space.described(),
        size=base.space.size,
        sampler=sampler,
        seed=base.spec.seed,
        trials=tuple(records),
        accuracy_title=_accuracy_title(known, bases[0]),
        accuracy_words=_accuracy_words(known, bases[0], alpha),
        cost_title="latency over FP32's" if bases[1] == "latency" else "size over FP32's",
        cost_words=_cost_words(known, bases[1]),
        limit=_limit(base, known, bases[0]),
        alpha=alpha,
        choices=count,
        selection=_selection(limits.alpha, count, records),
        notes=tuple(_notes(sampler, results, bases[0], alpha)),
        verdict=(best.verdict if best else None) or Verdict.NO_EVIDENCE,
        winner=winner.number if winner else None,
        reason=_reason(winner, best),
        next_step=_next_step(base, winner, best),
    )


def _trial(
    number: int, trial: Trial, label: str, figures: Figures | None, bases: tuple[str, str]
) -> TrialRecord:
    plain = TrialRecord(
        number=number,
        settings=dict(trial.settings),
        label=label,
        problem=trial.problem,
        seconds=trial.seconds,
    )
    if trial.result is None:
        return plain
    run = {"run_id": trial.result.run_id, "verdict_alone": trial.result.verdict.verdict}
    if figures is None:
        return plain.model_copy(update={**run, "problem": "it has no INT8 candidate"})
    candidate, speedup = figures.candidate, figures.speedup
    head = candidate.score.headline if candidate.score is not None else None
    noise = [e.sqnr_db for e in candidate.outputs if e.sqnr_db is not None]
    return plain.model_copy(
        update={
            **run,
            "candidate": candidate.name,
            "verdict": figures.verdict.verdict,
            "reason": figures.verdict.reason,
            "metric": head.text if head is not None else "",
            "reference": head.reference_text if head is not None else "",
            "loss": figures.loss.value,
            "loss_bound": figures.loss.bound,
            "sqnr_db": min(noise) if noise else None,
            "speedup": speedup.ratio if speedup else None,
            "speedup_low": speedup.low if speedup else None,
            "speedup_high": speedup.high if speedup else None,
            "size_ratio": figures.size,
            "model_sha256": candidate.model_sha256,
            "accuracy": figures.accuracy(bases[0]),
            "cost": figures.cost(bases[1]),
        }
    )


def _with_twins(records: list[TrialRecord]) -> list[TrialRecord]:
    """Trials that made the same model, to the byte, as an earlier one."""
    first: dict[str, int] = {}
    found = []
    for record in records:
        sha = record.model_sha256
        twin = first.setdefault(sha, record.number) if sha is not None else record.number
        found.append(
            record if twin == record.number else record.model_copy(update={"same_model_as": twin})
        )
    return found


def _with_front(records: list[TrialRecord]) -> list[TrialRecord]:
    """The front; of equal models the first stands for all, as only luck tells their times apart."""
    objectives = {
        r.number: (r.accuracy, r.cost)
        for r in records
        if r.accuracy is not None and r.cost is not None and r.same_model_as is None
    }
    numbers = front(objectives) if objectives else frozenset()
    return [r.model_copy(update={"on_front": r.number in numbers}) for r in records]


def _order(record: TrialRecord) -> tuple[float, float, int]:
    """The fastest first, then the most accurate."""
    lost = float("inf")
    cost = lost if record.cost is None else record.cost
    return cost, lost if record.accuracy is None else record.accuracy, record.number


def _winner(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """Of those that pass as one of all the fastest; where times cannot tell, the most accurate.

    A speed cannot be told from the fastest one's where their intervals overlap.
    """
    passing = [r for r in records if r.verdict is Verdict.PASS and r.same_model_as is None]
    fastest = min(passing, key=_order, default=None)
    if fastest is None or fastest.speedup_low is None:
        return fastest
    low = fastest.speedup_low
    as_fast = [r for r in passing if r is fastest or (r.speedup_high or 0.0) >= low]
    return min(as_fast, key=lambda r: (_order(r)[1], *_order(r)))


def _nearest(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """Of those that do not pass the one that fails least; of equals the most accurate."""

    def key(record: TrialRecord) -> tuple[float, ...]:
        cost, accuracy, number = _order(record)
        return _RANK[record.verdict or Verdict.FAIL], accuracy, cost, number

    return min((r for r in records if r.verdict is not None), key=key, default=None)


def _accuracy_title(known: Sequence[Figures], kind: str) -> str:
    if kind == "noise" or not known:
        return "-SQNR of the worst output, dB"
    title = known[0].loss.title
    return f"upper bound of {title}" if kind == "bound" else title


def _accuracy_words(known: Sequence[Figures], kind: str, alpha: float) -> str:
    if kind == "noise" or not known:
        return (
            "There are no figures of a task that every trial has, so accuracy is the SQNR of the "
            "worst output, in dB, negated: a fact of these samples, without bounds."
        )
    words = known[0].loss.words
    if kind == "bound":
        return (
            f"Accuracy is the bound of {words} against FP32: the true figure is above it with a "
            f"chance of {alpha:.2g} at most, as the gate computes it."
        )
    return f"Accuracy is {words} against FP32 as it was found: these samples bear no bound of it."


def _cost_words(known: Sequence[Figures], kind: str) -> str:
    if kind == "latency":
        return f"Speed is the median latency over FP32's at {known[0].point}."
    return (
        "Speed is told by the size of the file over FP32's: nothing was timed, or a precision is "
        "emulated here, whose time says nothing."
    )


def _limit(base: Base, known: Sequence[Figures], kind: str) -> float | None:
    field = known[0].loss.limit if known and kind in ("bound", "loss") else ""
    value = getattr(base.experiment.limits, field, None) if field else None
    return None if value is None else float(value)


def _selection(alpha: float, count: int, records: Sequence[TrialRecord]) -> str:
    if count == 1:
        return f"There is one INT8 model, so these samples chose none: alpha {alpha:g}."
    text = (
        f"The best of {count} INT8 models on the same samples looks better than it is: each was "
        f"judged with alpha {alpha:g} / {count} = {alpha / count:.2g} (Bonferroni)."
    )
    alone = [
        str(r.number)
        for r in records
        if r.verdict_alone is Verdict.PASS and r.verdict is not Verdict.PASS
    ]
    if alone:
        which = f"Trial {alone[0]} passes" if len(alone) == 1 else f"Trials {', '.join(alone)} pass"
        them = "itself" if len(alone) == 1 else "themselves"
        text += f" {which} by {them}, and not as one of {count}."
    return text


def _notes(sampler: str, results: Sequence[RunResult], kind: str, alpha: float) -> Iterator[str]:
    if sampler in _LEARNS and len(results) > 1:
        yield (
            f"{sampler} chose later trials by what earlier ones showed on the same samples, which "
            "Bonferroni's correction does not cover wholly: confirm the trial you take on samples "
            "that no trial has seen."
        )
    if any(is_for_tensorrt(result) for result in results):
        yield (
            "Latencies are ONNX Runtime's on this machine; the layout is TensorRT's, of whose "
            "speed they say nothing."
        )
    if alpha < QUANTILES[0] and kind != "bound":
        yield (
            f"With alpha {alpha:.2g} there are no bootstrap bounds: they need {QUANTILES[0]:g} at "
            "least, so fewer models, or a larger limits.alpha."
        )


def _reason(winner: TrialRecord | None, best: TrialRecord | None) -> str:
    if winner is not None:
        speed = f" at {winner.speedup:.2f} times FP32's speed" if winner.speedup else ""
        return f"Trial {winner.number} ({winner.label}) passes{speed}: {winner.reason}"
    if best is None:
        return "No trial could be judged."
    return f"No trial passes. Nearest is trial {best.number} ({best.label}): {best.reason}"


def _next_step(base: Base, winner: TrialRecord | None, best: TrialRecord | None) -> str:
    if winner is not None:
        given = " ".join(f"--set {shlex.quote(text)}" for text in overrides_of(base, winner))
        beside = ", beside those of this command" if base.is_overridden else ""
        return f"Take these settings{beside}: {given}"
    if best is None:
        return "See what the trials were refused for."
    if best.verdict is Verdict.INCONCLUSIVE:
        return (
            "Add validation samples, or try fewer settings: each one more widens every bound. The "
            "report of that trial says how many samples would decide."
        )
    if best.verdict is Verdict.NO_EVIDENCE:
        return "Set limits that this data can be judged by: without them nothing passes."
    return "Widen the space: quantization.remedies, engines.rest, more calibration samples."


def overrides_of(base: Base, trial: TrialRecord) -> list[str]:
    """What a trial adds to the experiment, as `--set` takes it."""
    return [*base.spelled_out, *settings_of(trial.settings)]
