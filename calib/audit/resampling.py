"""Whether other calibration samples would give other thresholds."""

from collections.abc import Iterator

from calib.audit.facts import AuditFacts
from calib.results import ActivationRecord, AuditFinding, Severity

_MOVING = 0.05
_HALVES_PCT = 25.0
_HALVES_SHARE = 0.1
_TWICE_PCT = 100.0
_SHOWN = 5


def resampling_findings(facts: AuditFacts) -> Iterator[AuditFinding]:
    """Thresholds that have not settled, and halves of the data that disagree."""
    yield from _unknown(facts)
    yield from _converged(facts)
    yield from _halves(facts)


def _unknown(facts: AuditFacts) -> Iterator[AuditFinding]:
    record = facts.record
    answers = [enough for a in record.activations for enough in a.enough.values()]
    if answers and all(answer is None for answer in answers):
        yield AuditFinding(
            check="converged",
            severity=Severity.INFO,
            title="too few batches to tell whether the thresholds have settled",
            evidence=f"{record.batches} batches of {record.samples:,} samples; four parts at least "
            "are needed",
            action="Give more calibration samples, or a smaller data.batch_size.",
        )


def _converged(facts: AuditFacts) -> Iterator[AuditFinding]:
    record = facts.record
    moving = {
        c: sorted(
            (a for a in record.activations if a.enough.get(c) is False),
            key=lambda a: -(a.standard_error_pct.get(c) or 0.0),
        )
        for c in record.calibrators
    }
    counts = {c: sum(c in a.enough for a in record.activations) for c in moving}
    bad = {c: found for c, found in moving.items() if len(found) > _MOVING * counts[c]}
    if not bad:
        return
    worst = max(bad, key=lambda c: len(bad[c]))
    yield AuditFinding(
        check="converged",
        severity=Severity.WARNING,
        title=f"thresholds have not settled on {record.samples:,} samples: "
        + ", ".join(f"{len(found)} of {counts[c]} of {c}" for c, found in bad.items()),
        evidence="standard error, or what the later half of the samples changed, above "
        f"{record.tolerance_pct or 0:g} %; {worst}: "
        + "; ".join(
            f"{a.tensor} ± {a.standard_error_pct.get(worst) or 0:.3g} %"
            for a in bad[worst][:_SHOWN]
        ),
        action=f"Give about {2 * record.samples:,} samples, or a calibrator that heeds single "
        "values less.",
        tensor=bad[worst][0].tensor,
        nodes=bad[worst][0].consumers,
    )


def _halves(facts: AuditFacts) -> Iterator[AuditFinding]:
    activations = facts.record.activations
    apart = {c: _apart(activations, c) for c in facts.record.calibrators}
    bad = {
        c: found
        for c, found in apart.items()
        if found
        and (
            len(found) > _HALVES_SHARE * sum(a.halves_pct.get(c) is not None for a in activations)
            or max(found.values()) >= _TWICE_PCT
        )
    }
    if not bad:
        return
    worst = max(bad, key=lambda c: max(bad[c].values()))
    ranked = sorted(bad[worst].items(), key=lambda pair: -pair[1])
    own = next(a for a in activations if a.tensor == ranked[0][0])
    yield AuditFinding(
        check="resampling",
        severity=Severity.WARNING,
        title="one half of the calibration samples gives other thresholds than the other: "
        + ", ".join(f"{len(found)} of {len(activations)} of {c}" for c, found in bad.items()),
        evidence=f"{worst}: " + "; ".join(f"{n} by {gap:.3g} %" for n, gap in ranked[:_SHOWN]),
        action="Which samples were taken decides the scales: give more, or take mse, percentile or "
        "entropy, which heed single values less.",
        tensor=own.tensor,
        nodes=own.consumers,
    )


def _apart(activations: tuple[ActivationRecord, ...], calibrator: str) -> dict[str, float]:
    """Tensors whose halves disagree, and by how much, in %."""
    return {
        a.tensor: gap
        for a in activations
        if (gap := a.halves_pct.get(calibrator)) is not None and gap > _HALVES_PCT
    }
