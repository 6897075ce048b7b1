"""Two finished runs side by side: what can be compared, with paired intervals."""

from collections.abc import Iterator, Mapping

from calib.results import MetricChange, Outcome, RunComparison, RunResult, Verdict
from calib.run_diff.changes import moved_precisions, moved_scales, new_tail
from calib.run_diff.config_diff import differences
from calib.run_diff.metrics import metric_changes, speed_changes
from calib.run_diff.side import SampleColumns, Side, same_data, side_of
from calib.run_diff.summary import machine_of, summarise

_SHOWN = 50


def compare_runs(
    first: RunResult,
    second: RunResult,
    samples: tuple[Mapping[str, SampleColumns], Mapping[str, SampleColumns]],
    candidate: str | None = None,
) -> RunComparison:
    """What changed from the first run to the second.

    Metrics get an interval where both runs judged the same validation samples; speed is compared
    on equal machines only. The outcome is `worse` where the interval of the task's metric lies
    wholly on the bad side, or the verdict was PASS and is no longer.

    Args:
        first: the run that is known.
        second: the run in question.
        samples: of each run, by candidate: `COLUMNS`.
        candidate: its name in both; what each verdict speaks of if None.

    Raises:
        ConfigError: if a run has no such candidate.
    """
    sides = [
        side_of(result, own, candidate)
        for result, own in zip((first, second), samples, strict=True)
    ]
    own, other = sides
    notes = list(_not_compared(own, other))
    metrics = (*metric_changes(own, other), *speed_changes(own, other))
    tail = new_tail(own, other) if same_data(own, other) else []
    outcome, reason = _outcome(own, other, metrics)
    rows = summarise((first, second))
    return RunComparison(
        outcome=outcome,
        reason=reason,
        first=rows[0],
        second=rows[1],
        unlike=tuple(differences(first, second)),
        not_compared=tuple(notes),
        metrics=metrics,
        tail=tuple(tail[:_SHOWN]),
        tail_count=len(tail),
        scales=tuple(moved_scales(own, other)),
        precisions=tuple(moved_precisions(own, other)),
    )


def _not_compared(own: Side, other: Side) -> Iterator[str]:
    if own.result.data.validation.sha256 != other.result.data.validation.sha256:
        yield "accuracy and tails: the runs judged other validation samples"
    elif not own.samples or not other.samples:
        yield "accuracy and tails: a run has no samples.parquet"
    elif own.samples.keys() != other.samples.keys():
        yield "accuracy and tails: the samples.parquet files hold other samples"
    if machine_of(own.result) != machine_of(other.result):
        yield "speed: the machine, the backend or its packages are not the same"
    if own.candidate.emulated or other.candidate.emulated:
        yield "speed: a precision was emulated"
    kinds = [s.candidate.score.kind if s.candidate.score else None for s in (own, other)]
    if kinds[0] != kinds[1]:
        yield "the task's metric: the runs have other tasks"


def _outcome(own: Side, other: Side, metrics: tuple[MetricChange, ...]) -> tuple[Outcome, str]:
    verdicts = [side.result.verdict.verdict for side in (own, other)]
    if verdicts[0] is Verdict.PASS and verdicts[1] is not Verdict.PASS:
        return Outcome.WORSE, f"The verdict was PASS and is {verdicts[1].value.replace('_', ' ')}."
    main = next((m for m in metrics if m.difference is not None and m.low is not None), None)
    if main is None or main.low is None or main.high is None:
        return Outcome.NO_EVIDENCE, "The runs share no validation samples to compare them by."
    told = (
        f"{main.name} changed by {main.difference:+.3g} {main.unit}".rstrip()
        + f", 95 % interval {main.low:+.3g} to {main.high:+.3g}, on {main.samples:,} samples"
    )
    if main.is_worse:
        return Outcome.WORSE, f"{told}: worse by more than chance."
    beside = [metric.name for metric in metrics if metric.is_worse]
    more = f" Worse beside it: {', '.join(beside)}." if beside else ""
    return Outcome.NO_WORSE, f"{told}: no worse by more than chance.{more}"
