"""The verdicts as JUnit XML: a suite a candidate, a case a rule."""

import re
import xml.etree.ElementTree as ET

from calib.results import CandidateVerdict, RuleVerdict, RunResult, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: RunResult) -> str:
    """JUnit XML. FAIL is a failure; NO_EVIDENCE is an error, so that it never counts as green."""
    root = ET.Element("testsuites", name=_text(result.experiment))
    for verdict in result.verdict.candidates:
        _add_suite(root, verdict)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _add_suite(root: ET.Element, verdict: CandidateVerdict) -> None:
    counts = [rule.verdict for rule in verdict.rules]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_text(verdict.candidate),
        tests=str(max(len(counts), 1)),
        failures=str(counts.count(Verdict.FAIL)),
        errors=str(counts.count(Verdict.NO_EVIDENCE) or int(not counts)),
    )
    for rule in verdict.rules:
        _add_case(suite, verdict.candidate, rule)
    if not verdict.rules:
        case = ET.SubElement(suite, "testcase", name="limits", classname=_text(verdict.candidate))
        ET.SubElement(case, "error", message="no limit was asked for")


def _add_case(suite: ET.Element, candidate: str, rule: RuleVerdict) -> None:
    case = ET.SubElement(suite, "testcase", name=_text(rule.title), classname=_text(candidate))
    if rule.verdict is Verdict.PASS:
        return
    tag = "failure" if rule.verdict is Verdict.FAIL else "error"
    found = "nothing" if rule.found is None else f"{rule.found:g}"
    message = f"found {found} on {rule.samples} samples: {rule.details}"
    ET.SubElement(case, tag, message=_text(message))


def _text(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
