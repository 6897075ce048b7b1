"""Whether a bundle is what it claims, is about these files, and still says enough."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calib.errors import StoreError
from calib.evidence.bundle import Signed
from calib.evidence.evaluation import EVALUATION
from calib.evidence.statements import PROVENANCE, STATEMENT, TEST_RESULT
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.waiving import with_waivers
from calib.results import RunResult, RunVerdict, Verdict, Waiver
from calib.store import sha256_from_file

_KINDS = (PROVENANCE, TEST_RESULT, EVALUATION)
_AHEAD = timedelta(minutes=5)
"""By so much two machines' clocks may differ."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a bundle says, after everything about it held.

    Attributes:
        result: the recorded facts.
        verdict: by the limits that were asked, or by the run's own.
        waived: limits that a waiver let pass.
    """

    result: RunResult
    verdict: RunVerdict
    waived: tuple[str, ...] = field(default=())


def check(
    bundle: Sequence[Signed],
    artifacts: Iterable[Path],
    age_max: timedelta | None,
    limits: LimitsSpec | None,
    waivers: Sequence[Waiver] = (),
) -> Checked:
    """Hold a bundle's statements together, and against files, time and limits.

    Args:
        bundle: its statements, whose signatures hold.
        artifacts: files that must be among what the statements are about.
        age_max: how old the evidence may be.
        limits: stricter ones to judge the recorded facts by; the run's own if None.
        waivers: signed ones; those of other limits or models, and expired ones, do nothing.

    Raises:
        StoreError: if the statements are not the three of one run, a file is another one, or the
            evidence is too old or from the future.
    """
    statements = {s.statement.get("predicateType"): s.statement for s in bundle}
    if sorted(map(str, statements)) != sorted(_KINDS) or len(bundle) != len(_KINDS):
        raise StoreError("the bundle", "does not hold the three statements of one run")
    if any(s.get("_type") != STATEMENT for s in statements.values()):
        raise StoreError("the bundle", "holds a statement of another form")
    subjects = [_digests(s) for s in statements.values()]
    if any(other != subjects[0] for other in subjects[1:]):
        raise StoreError("the bundle", "holds statements about different files")
    evaluation = statements[EVALUATION]["predicate"]
    _refuse_other_run(statements, evaluation)
    _refuse_old(evaluation, age_max)
    for path in artifacts:
        _refuse_unknown(path, subjects[0])
    result = _facts(evaluation)
    if result.verdict.verdict.value != evaluation["verdict"]:
        raise StoreError("the bundle", "says another verdict than its facts")
    verdict = result.verdict if limits is None else evaluate(result, limits)
    answered = with_waivers(result, verdict, waivers)
    return Checked(result, answered.verdict, answered.limits)


def _digests(statement: dict[str, Any]) -> dict[str, str]:
    try:
        return {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    except (KeyError, TypeError) as error:
        raise StoreError("the bundle", f"names its files in another form: {error}") from error


def _refuse_other_run(statements: dict[Any, dict[str, Any]], evaluation: dict[str, Any]) -> None:
    try:
        made = statements[PROVENANCE]["predicate"]["runDetails"]["metadata"]["invocationId"]
        passed = statements[TEST_RESULT]["predicate"]["result"] == "PASSED"
        is_pass = evaluation["verdict"] == Verdict.PASS.value
    except (KeyError, TypeError) as error:
        raise StoreError("the bundle", f"lacks a part of a statement: {error}") from error
    if made != evaluation["runId"]:
        raise StoreError("the bundle", "mixes two runs", got=f"{made} and {evaluation['runId']}")
    if passed != is_pass:
        raise StoreError("the bundle", "says PASSED in one statement and not in another")


def _refuse_old(evaluation: dict[str, Any], age_max: timedelta | None) -> None:
    try:
        made = datetime.fromisoformat(evaluation["attestedOn"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("the bundle", f"does not say when it was made: {error}") from error
    now = datetime.now(UTC)
    if made > now + _AHEAD:
        raise StoreError("the bundle", "was made in the future", got=evaluation["attestedOn"])
    if age_max is not None and now - made > age_max:
        raise StoreError(
            "the bundle",
            "is too old",
            got=f"{(now - made).days} days, of {evaluation['attestedOn']}",
            expected=f"at most {age_max.days} days",
            fix="Judge the model again, and attest that run.",
        )


def _refuse_unknown(path: Path, subjects: dict[str, str]) -> None:
    try:
        found = sha256_from_file(path)
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
    if found not in subjects.values():
        raise StoreError(
            str(path),
            "is none of the files that the bundle is about",
            got=f"SHA-256 {found[:16]}…",
            expected=", ".join(list(subjects)[:8]),
        )


def _facts(evaluation: dict[str, Any]) -> RunResult:
    try:
        return RunResult.model_validate(evaluation["facts"])
    except (KeyError, ValidationError) as error:
        raise StoreError(
            "the bundle", f"holds facts of another version: {str(error).splitlines()[0]}"
        ) from error
