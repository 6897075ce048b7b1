"""The verdicts as JUnit XML: a suite a candidate, a case a rule."""

import re
import xml.etree.ElementTree as ET

from calib.gate.wording import found_text
from calib.results import CandidateVerdict, RuleVerdict, RunResult, Verdict

_TAGS = {
    Verdict.FAIL: "failure",
    Verdict.INCONCLUSIVE: "failure",
    Verdict.NO_EVIDENCE: "error",
}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: RunResult) -> str:
    """JUnit XML. FAIL is a failure; NO_EVIDENCE is an error, so that it never counts as green.

    INCONCLUSIVE is a failure too, or skipped if the limits' `inconclusive` says so.
    """
    skips = result.config.get("limits", {}).get("inconclusive") == "skipped"
    tags = _TAGS | ({Verdict.INCONCLUSIVE: "skipped"} if skips else {})
    root = ET.Element("testsuites", name=_text(result.experiment))
    for verdict in result.verdict.candidates:
        _add_suite(root, verdict, tags)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _add_suite(root: ET.Element, verdict: CandidateVerdict, tags: dict[Verdict, str]) -> None:
    counts = [tags.get(rule.verdict, "") for rule in verdict.rules]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_text(verdict.candidate),
        tests=str(max(len(counts), 1)),
        failures=str(counts.count("failure")),
        errors=str(counts.count("error") or int(not counts)),
        skipped=str(counts.count("skipped")),
    )
    for rule in verdict.rules:
        _add_case(suite, verdict.candidate, rule, tags)
    if not verdict.rules:
        case = ET.SubElement(suite, "testcase", name="limits", classname=_text(verdict.candidate))
        ET.SubElement(case, "error", message="no limit was asked for")


def _add_case(
    suite: ET.Element, candidate: str, rule: RuleVerdict, tags: dict[Verdict, str]
) -> None:
    case = ET.SubElement(suite, "testcase", name=_text(rule.title), classname=_text(candidate))
    if rule.verdict not in tags:
        return
    advice = f". {rule.advice}" if rule.advice else ""
    message = f"found {found_text(rule)} on {rule.samples} samples: {rule.details}{advice}"
    verdict = rule.verdict.replace("_", " ")
    ET.SubElement(case, tags[rule.verdict], message=_text(f"{verdict}: {message}"))


def _text(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
