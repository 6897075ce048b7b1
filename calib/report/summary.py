"""The verdict for a pipeline: a page of Markdown for its summary, and JSON for its next step."""

import html
from collections.abc import Iterator

from calib.gate.wording import found_text
from calib.report.markdown import inert
from calib.results import (
    CandidateVerdict,
    RuleVerdict,
    RunResult,
    Verdict,
    VerdictFile,
)
from data_loaders.printable import visible

_MARKS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.INCONCLUSIVE: "❔",
    Verdict.NO_EVIDENCE: "❔",
}
_SHOWN = 5


def verdict_file(result: RunResult) -> VerdictFile:
    """What verdict.json holds."""
    verdict = result.verdict
    chosen = [c for c in result.candidates if c.name == verdict.chosen]
    return VerdictFile(
        experiment=result.experiment,
        run_id=result.run_id,
        started_at=result.started_at,
        exit_code=verdict.verdict.exit_code,
        reference_sha256=result.model.sha256,
        model_sha256=chosen[0].model_sha256 if chosen else None,
        model_path=chosen[0].model_path if chosen else None,
        calibration_sha256=result.data.calibration.sha256,
        validation_sha256=result.data.validation.sha256,
        verdict=verdict,
    )


def render_summary(result: RunResult) -> str:
    """GitHub-flavoured Markdown; names and texts of the run are inert."""
    return "\n".join([*_head(result), *_tables(result), *_slices(result), *_end(result)]) + "\n"


def _head(result: RunResult) -> Iterator[str]:
    verdict = result.verdict
    words = verdict.verdict.replace("_", " ")
    yield f"## {_MARKS[verdict.verdict]} {words}: {inert(result.experiment)}"
    yield ""
    for text in filter(None, (verdict.reason, verdict.advice, verdict.selection)):
        yield inert(text)
        yield ""


def _tables(result: RunResult) -> Iterator[str]:
    chosen = result.verdict.chosen
    ordered = sorted(result.verdict.candidates, key=lambda v: v.candidate != chosen)
    for verdict in ordered:
        if verdict.candidate == chosen:
            yield from _rules(verdict)
        else:
            # Within a line of HTML nothing else is markup.
            name, words = html.escape(visible(verdict.candidate)), verdict.verdict.replace("_", " ")
            yield f"<details><summary>{name}: {words}</summary>"
            yield ""
            yield from _rules(verdict)
            yield "</details>"
            yield ""


def _rules(verdict: CandidateVerdict) -> Iterator[str]:
    yield f"| {inert(verdict.candidate)}: asked | found | samples | |"
    yield "|---|---|--:|---|"
    yield from (_row(rule) for rule in verdict.rules)
    yield ""
    for p in verdict.paired:
        yield (
            f"Against {inert(p.rival)}: {p.worsened} worsened, {p.improved} improved of "
            f"{p.samples:,}; McNemar p = {p.mcnemar_p:.2g}; points lost between {p.low:.2f} and "
            f"{p.high:.2f} (Tango), {p.newcombe_low:.2f} and {p.newcombe_high:.2f} (Newcombe), "
            f"each bound at {100 * (1 - p.alpha):.3g} %."
        )
        yield ""


def _row(rule: RuleVerdict) -> str:
    more = f": {rule.advice}" if rule.advice else ""
    words = rule.verdict.replace("_", " ")
    cells = (rule.title, found_text(rule), f"{rule.samples:,}", f"{words}{more}")
    return "| " + " | ".join(map(inert, cells)) + " |"


def _slices(result: RunResult) -> Iterator[str]:
    found = [c for c in result.candidates if c.name == result.verdict.chosen and c.found_slices]
    for candidate in found:
        yield "Slices that a search came upon (exploratory, no limit is held against them):"
        yield ""
        for s in candidate.found_slices[:_SHOWN]:
            if s.loss is not None:
                yield (
                    f"- {inert(s.condition)}: {inert(s.score)}: worse by {s.loss:.3g} on "
                    f"average of {s.samples:,}; elsewhere by {s.rest_loss or 0:.3g} of "
                    f"{s.rest_samples:,}; p = {s.p_value:.2g}"
                )
                continue
            yield (
                f"- {inert(s.condition)}: {s.worsened} worsened, {s.improved} improved of "
                f"{s.samples:,}; elsewhere {s.rest_worsened} and {s.rest_improved} of "
                f"{s.rest_samples:,}; p = {s.p_value:.2g}"
            )
        yield ""


def _end(result: RunResult) -> Iterator[str]:
    yield f"Run {inert(result.run_id)}, {result.started_at}. The evidence is in report.html."
