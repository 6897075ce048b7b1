"""What an audit, a comparison of runs and a history look like in a terminal."""

from collections.abc import Iterator

from rich.console import Console

from calib.results import AuditRecord, Severity

_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "dim"}
_SHOWN = 3


def print_audit(console: Console, record: AuditRecord) -> None:
    """Every finding: what, why, and what to do; then what was looked at."""
    for finding in record.findings:
        console.print(finding.severity.value, style=_STYLE[finding.severity], end="  ")
        for text in (finding.title, f"    {finding.evidence}", f"    {finding.action}"):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(summary(record), markup=False, highlight=False, soft_wrap=True)


def summary(record: AuditRecord) -> str:
    """How much was found, and on what, in a sentence."""
    counts = [
        f"{number} {severity.value}{'s' if number > 1 and severity is not Severity.INFO else ''}"
        for severity in Severity.__members__.values()
        if (number := sum(f.severity is severity for f in record.findings))
    ]
    by = ", classes by FP32's prediction" if record.classes_from == "predictions" else ""
    return (
        f"audit: {', '.join(reversed(counts)) or 'nothing found'}; {len(record.tensors)} tensors, "
        f"{record.calibration_samples} calibration and {record.validation_samples} validation "
        f"samples looked at inside the model, all read{by}"
    )


def audit_lines(record: AuditRecord | None) -> Iterator[str]:
    """What a run says of its audit: the gravest findings, and where the others are."""
    if record is None:
        return
    grave = [f for f in record.findings if f.severity is not Severity.INFO]
    for finding in grave[:_SHOWN]:
        yield f"audit, {finding.severity.value}: {finding.title}. {finding.action}"
    if len(grave) > _SHOWN:
        more = len(grave) - _SHOWN
        told = "one more finding of the audit is" if more == 1 else f"{more} more findings are"
        yield f"{told} in the report"
