"""The runs of an experiment in a row."""

from collections.abc import Iterable

from calib.results import History, RunResult
from calib.run_diff.summary import summarise


def history(
    experiment: str, results: Iterable[RunResult], unreadable: Iterable[str] = ()
) -> History:
    """The runs by the time they started."""
    ordered = sorted(results, key=lambda result: (result.started_at, result.run_id))
    return History(
        experiment=experiment, runs=summarise(ordered), unreadable=tuple(sorted(unreadable))
    )
