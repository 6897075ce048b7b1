"""One of the two runs that are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib.errors import ConfigError
from calib.results import CandidateRecord, RunResult
from calib.run_diff.summary import chosen_candidate

COLUMNS = ["id", "rank", "label", "prediction", "margin", "margin_loss", "flip"]

SampleColumns = Mapping[str, Sequence[Any]]
"""`COLUMNS` of one candidate's samples, in any order."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run: its record, the candidate that is looked at, and its samples by id."""

    result: RunResult
    candidate: CandidateRecord
    samples: Mapping[str, Mapping[str, Any]]


def side_of(result: RunResult, samples: Mapping[str, SampleColumns], candidate: str | None) -> Side:
    """A run as it is compared.

    Args:
        result: the run.
        samples: by candidate: `COLUMNS`.
        candidate: its name; what the verdict speaks of if None.

    Raises:
        ConfigError: if the run has no such candidate.
    """
    names = [c.name for c in result.candidates]
    if candidate is not None and candidate not in names:
        raise ConfigError(
            "--candidate",
            f"is not in run {result.run_id}",
            got=candidate,
            expected=", ".join(names),
        )
    own = result.candidate(candidate) if candidate else chosen_candidate(result)
    if own is None:
        raise ConfigError(
            f"run {result.run_id}",
            "has no INT8 candidate",
            expected=", ".join(names),
            fix="Name one with --candidate.",
        )
    given = samples.get(own.name, {})
    columns = given if {*COLUMNS} <= {*given} else {}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Side(result, own, {str(row["id"]): row for row in rows})


def same_data(own: Side, other: Side) -> bool:
    """Whether both runs judged the same validation samples, and both tables of them are there."""
    same = own.result.data.validation.sha256 == other.result.data.validation.sha256
    return same and bool(own.samples) and own.samples.keys() == other.samples.keys()
