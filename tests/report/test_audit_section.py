"""The audit on the report's page and in the terminal."""

import io

import records

from calib.report import render_html
from calib.results import Severity
from calib.terminal import SafeConsole
from calib.terminal.audit import audit_lines, print_audit, summary


def printed(record):
    out = io.StringIO()
    print_audit(SafeConsole(file=out, width=200), record)
    return out.getvalue()


def test_the_page_has_each_finding_with_what_to_do_and_its_samples_are_inert():
    page = render_html(records.run())
    section = page[page.index('id="audit"') :]
    assert "calibration lacks class rare" in section
    assert "Add about 20 samples of class rare." in section
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in section


def test_a_run_without_an_audit_says_so_and_one_without_findings_too():
    assert "No audit was asked for" in render_html(records.run(audit=None))
    assert "Nothing was found." in render_html(records.run(audit=records.audit(findings=())))


def test_the_terminal_counts_findings_by_severity_and_shows_the_gravest():
    warning = records.audit().findings[0]
    error = warning.model_copy(update={"severity": Severity.ERROR, "title": "too few"})
    info = warning.model_copy(update={"severity": Severity.INFO, "title": "by the way"})
    record = records.audit(findings=(error, warning, warning, info))
    assert summary(record).startswith("audit: 1 error, 2 warnings, 1 info; 1 tensors")
    lines = list(audit_lines(record))
    assert lines[0] == "audit, error: too few. Add about 20 samples of class rare."
    assert not any("by the way" in line for line in lines)
    shown = printed(record)
    assert shown.index("too few") < shown.index("lacks class rare") < shown.index("by the way")
    assert list(audit_lines(None)) == []
