"""From a finished run to what may be promoted of it, or to the verdict that refuses."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from calib.errors import ConfigError, StoreError
from calib.evidence.extra import evidence_module, public_keys, signed_waivers
from calib.gate.waiving import Waived, verdict_of, with_waivers
from calib.promotion.package import (
    BUNDLE_NAME,
    CARD_NAME,
    REPORT_NAME,
    WAIVERS_NAME,
    Package,
    PackedFile,
    files_of,
)
from calib.report import render_html, render_model_card
from calib.results import CandidateRecord, RunResult, RunVerdict, Verdict
from calib.rundir import load_result

_NAMES = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be promoted, and what must hold for it.

    Attributes:
        run: a finished run's directory.
        name: of the model where it is served; the experiment's if None.
        candidate: the one that the run chose if None.
        waivers: files of signed waivers.
        keys: public keys that may sign waivers and the bundle; with one, a bundle is asked for.
        threshold: how many of them must have signed.
        bundle: the run's statements; those in its directory if None.
        age_max: how old they may be.
    """

    run: Path
    name: str | None = None
    candidate: str | None = None
    waivers: tuple[Path, ...] = ()
    keys: tuple[Path, ...] = ()
    threshold: int = 1
    bundle: Path | None = None
    age_max: timedelta | None = None


def promotable(request: Request) -> Package | RunVerdict:
    """The package of a candidate that passed, by its limits or with waivers.

    Nothing is written.

    Returns:
        the package, or the verdict if it is no PASS.

    Raises:
        ConfigError: if the request names what is not there.
        StoreError: if the run, the bundle or a waiver cannot be read, was changed, is signed by
            others or is about something else.
    """
    if not request.keys and (request.age_max is not None or request.threshold > 1):
        raise ConfigError(
            "--age-days-max and --threshold", "are for signed evidence", fix="Give a --key, too."
        )
    result = load_result(request.run)
    folder = request.run if request.run.is_dir() else request.run.parent
    name = _checked_name(request.name or result.experiment)
    given = signed_waivers(request.waivers, request.keys, request.threshold)
    recorded = verdict_of(result, request.candidate)
    answered = with_waivers(result, recorded, [waiver for waiver, _ in given])
    verdict = answered.verdict
    if verdict.verdict is not Verdict.PASS or verdict.chosen is None:
        return verdict
    candidate = result.candidate(verdict.chosen)
    kept = _kept(candidate, folder)
    bundle = request.bundle or folder / BUNDLE_NAME
    if request.keys:
        _verify_bundle(request, bundle, result, candidate, folder)
    if bundle.is_file() or request.bundle is not None:
        kept = [f for f in kept if f.name != BUNDLE_NAME] + [_packed(BUNDLE_NAME, bundle)]
    counting = tuple(s for s in answered.standings if s.counts)
    lines = {line for waiver, line in given if waiver in answered.counted}
    if lines:
        text = "".join(f"{line}\n" for line in sorted(lines))
        kept.append(PackedFile.of(WAIVERS_NAME, text.encode()))
    shown = result.model_copy(update={"verdict": recorded})
    kept += _pages(shown, replace(answered, standings=counting), candidate, name)
    return Package(
        name=name,
        result=result,
        candidate=candidate,
        verdict=verdict,
        waived=answered.limits,
        folder=folder,
        files=tuple(kept),
        waivers=answered.counted,
    )


def _checked_name(name: str) -> str:
    if not re.fullmatch(_NAMES, name):
        raise ConfigError(
            "--name",
            "cannot name a model everywhere",
            got=name,
            expected="letters, digits, . _ -; at most 64, the first a letter or digit",
        )
    return name


def _kept(candidate: CandidateRecord, folder: Path) -> list[PackedFile]:
    try:
        return list(files_of(candidate, folder))
    except OSError as error:
        where = error.filename or folder
        raise StoreError(str(where), f"cannot be read: {error.strerror or error}") from error


def _packed(name: str, path: Path) -> PackedFile:
    try:
        return PackedFile.of(name, path)
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {error.strerror or error}") from error


def _pages(
    shown: RunResult, answered: Waived, candidate: CandidateRecord, name: str
) -> Iterator[PackedFile]:
    """The model card; with waivers the report, too, which then says so on its first screen."""
    card = render_model_card(shown, candidate, answered, name)
    yield PackedFile.of(CARD_NAME, card.encode())
    if answered.limits:
        yield PackedFile.of(REPORT_NAME, render_html(shown, answered).encode())


def _verify_bundle(
    request: Request, bundle: Path, result: RunResult, candidate: CandidateRecord, folder: Path
) -> None:
    """Refuse a run whose statements are not signed, are too old, or say something else."""
    if not bundle.is_file():
        raise StoreError(
            str(bundle),
            "there is no such bundle, and --key asks for one",
            fix="Sign the run first: calib attest RUN --key KEY.",
        )
    opened, checks = evidence_module("bundle"), evidence_module("verify")
    public = public_keys(request.keys, request.threshold)
    found = opened.read_bundle(bundle, public, request.threshold)
    model = folder / candidate.model_path
    parts = sorted(p for p in model.parent.iterdir() if p.is_file())
    checked = checks.check(found, parts, request.age_max, None)
    _refuse_other_facts(checked.result, result, bundle)


def _refuse_other_facts(attested: RunResult, result: RunResult, bundle: Path) -> None:
    """Refuse a run whose record is not, to the last figure, what was signed."""
    if attested.run_id != result.run_id:
        raise StoreError(
            str(bundle), "is about another run", got=attested.run_id, expected=result.run_id
        )
    without_bulk = evidence_module("evaluation").without_bulk
    mine, theirs = (_fields(without_bulk(r)) for r in (result, attested))
    unlike = [field for field in mine if mine[field] != theirs[field]]
    if unlike:
        raise StoreError(
            str(bundle),
            "says something else than the run's result.json",
            got=f"another {', '.join(unlike)}",
            fix="One of them was changed after it was signed: run again.",
        )


def _fields(result: RunResult) -> dict[str, str]:
    """Each part of the record as text, so that NaN is equal to itself and no order counts."""
    return {k: json.dumps(v, sort_keys=True) for k, v in result.model_dump(mode="json").items()}
