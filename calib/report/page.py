"""What every section of the page is drawn from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from calib.gate.waiving import Waived
from calib.record import Precision
from calib.results import CandidateRecord, CandidateVerdict, RunResult

Context = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A run, and the candidate whose details the page shows.

    Attributes:
        result: of the run.
        shown: the candidate.
        waived: its verdict with waivers; None where the page was asked for without any.
    """

    result: RunResult
    shown: CandidateRecord
    waived: Waived | None = None

    @property
    def verdict(self) -> CandidateVerdict | None:
        """The shown candidate's verdict; None if it was not judged."""
        found = self.result.verdict.candidates
        return next((v for v in found if v.candidate == self.shown.name), None)


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its template is `sections/<id>.html`.

    Attributes:
        id: its anchor.
        title: its heading, and its entry in the navigation.
        context: the template's own variables; `data`, if any, is given to the page's script.
        present: whether the run has anything for it; a section that is not present is left out.
    """

    id: str
    title: str
    context: Callable[[Page], Context] = lambda _: {}
    present: Callable[[Page], bool] = lambda _: True


def page_from_result(result: RunResult, waived: Waived | None = None) -> Page:
    """The page of a run: of the chosen candidate, else of the first that is INT8."""
    return Page(result, shown_candidate(result), waived)


def shown_candidate(result: RunResult) -> CandidateRecord:
    """The candidate whose details the page shows: the chosen one, else the first that is INT8."""
    if result.verdict.chosen is not None:
        return result.candidate(result.verdict.chosen)
    rivals = [c for c in result.candidates if c.precision is Precision.INT8]
    return (rivals or list(result.candidates))[0]
