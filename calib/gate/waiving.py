"""A verdict with its waivers: what somebody answers for no longer stands in the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from calib.errors import ConfigError
from calib.gate.wording import reason
from calib.results import RunResult, RunVerdict, Verdict, Waiver, holds


@dataclass(frozen=True, slots=True)
class WaiverStanding:
    """A waiver, and what it does for the candidate that a verdict speaks of.

    Attributes:
        waiver: as it was signed.
        why_not: why it does nothing; empty where it lets its limit pass.
    """

    waiver: Waiver
    why_not: str

    @property
    def counts(self) -> bool:
        """Whether it lets its limit pass."""
        return not self.why_not


@dataclass(frozen=True, slots=True)
class Waived:
    """A verdict, and what waivers did to it.

    Attributes:
        verdict: PASS if every limit that does not pass is waived, else as it was.
        limits: those that a waiver lets pass, in the order of the verdict's rules.
        standings: every waiver that was given, those that count first.
    """

    verdict: RunVerdict
    limits: tuple[str, ...]
    standings: tuple[WaiverStanding, ...]

    @property
    def counted(self) -> tuple[Waiver, ...]:
        """The waivers that let a limit pass."""
        return tuple(s.waiver for s in self.standings if s.counts)


def with_waivers(
    result: RunResult,
    verdict: RunVerdict,
    waivers: Sequence[Waiver],
    now: datetime | None = None,
) -> Waived:
    """The verdict with the limits that a waiver lets pass left out; FAIL is kept for the rest.

    Args:
        result: of the run, for the model's digest.
        verdict: of which the chosen candidate is looked at.
        waivers: whose signatures hold.
        now: at which they are looked at, with time zone; this moment if None.
    """
    moment = now or datetime.now(UTC)
    chosen = next((c for c in verdict.candidates if c.candidate == verdict.chosen), None)
    rules = chosen.rules if chosen is not None else ()
    undone = [r.rule for r in rules if r.verdict is not Verdict.PASS]
    model = result.candidate(chosen.candidate).model_sha256 if chosen is not None else ""
    standings = [
        WaiverStanding(w, _why_not(w, undone, model, moment)) for w in dict.fromkeys(waivers)
    ]
    let = [rule for rule in undone if any(holds(w, rule, model, moment) for w in waivers)]
    ordered = tuple(sorted(standings, key=_place))
    if verdict.verdict is Verdict.PASS or not let or len(let) < len(undone):
        return Waived(verdict, tuple(let), ordered)
    owners = ", ".join(sorted({s.waiver.owner for s in ordered if s.counts}))
    passed = verdict.model_copy(
        update={
            "verdict": Verdict.PASS,
            "reason": f"{verdict.reason} Waived by {owners}: {', '.join(let)}.",
        }
    )
    return Waived(passed, tuple(let), ordered)


def _place(standing: WaiverStanding) -> tuple[bool, str, str, datetime]:
    """Where it stands: those that count first, however they were given."""
    waiver = standing.waiver
    return not standing.counts, waiver.limit, waiver.owner, waiver.expires


def _why_not(waiver: Waiver, undone: Sequence[str], model: str, now: datetime) -> str:
    if waiver.model_sha256 != model:
        return "it is for another model"
    if waiver.limit not in undone:
        return "its limit needs no waiver here"
    return "" if waiver.expires > now else "it has expired"


def verdict_of(result: RunResult, candidate: str | None) -> RunVerdict:
    """The run's verdict, or that of another of its candidates as if it had been chosen.

    Args:
        result: of the run.
        candidate: its name; the one that the run chose if None.

    Raises:
        ConfigError: if the run judged none of that name.
    """
    found = result.verdict
    if candidate is None or candidate == found.chosen:
        return found
    own = next((c for c in found.candidates if c.candidate == candidate), None)
    if own is None:
        raise ConfigError(
            "--candidate",
            "names no candidate that this run judged",
            got=candidate,
            expected=", ".join(c.candidate for c in found.candidates) or "none was judged",
        )
    return found.model_copy(
        update={
            "verdict": own.verdict,
            "chosen": candidate,
            "reason": reason(result.candidate(candidate), own),
            "advice": "",
        }
    )
