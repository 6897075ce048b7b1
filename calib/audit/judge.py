"""From facts to findings."""

from calib.audit.coverage import coverage, group_counts
from calib.audit.duplicates import duplicate_findings
from calib.audit.facts import AuditFacts, SplitFacts
from calib.audit.inputs import input_findings
from calib.audit.resampling import resampling_findings
from calib.audit.tensors import audit_tensors, tensor_findings
from calib.results import AuditRecord, Severity

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def judge(facts: AuditFacts) -> AuditRecord:
    """Every check, the gravest findings first; of equals, in the order of the checks."""
    tensors = audit_tensors(facts)
    found = [
        *input_findings(facts),
        *coverage(facts),
        *tensor_findings(facts, tensors),
        *duplicate_findings(facts),
        *resampling_findings(facts),
    ]
    classes = facts.calibration.classes or facts.validation.classes
    return AuditRecord(
        calibration_samples=_looked_at(facts.calibration),
        validation_samples=_looked_at(facts.validation),
        classes_from=""
        if not classes
        else "predictions"
        if facts.calibration.predicted
        else "labels",
        findings=tuple(sorted(found, key=lambda f: _RANK[f.severity])),
        tensors=tensors,
        groups=group_counts(facts),
    )


def _looked_at(split: SplitFacts) -> int:
    return len(split.profiles.ids) if split.profiles else 0
