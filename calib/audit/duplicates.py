"""Samples that occur twice, or nearly so, and samples unlike all others."""

from collections.abc import Iterator

import numpy as np

from calib.analysis.profiles import nearest
from calib.audit.facts import AuditFacts
from calib.audit.two_samples import beyond_p_value
from calib.results import AuditFinding, Severity

_NEAR = 0.02
_MANY = 0.05
_MANY_TWICE = 0.01
_ALPHA = 0.01
_UNLIKE = 1.5
_FAR_UNLIKE = 2.0
"""From here on a single sample counts, whatever the p-value: ranks of few samples tell little."""
_SHOWN = 5
_LEAST = 1e-6
"""Distances below this are float rounding: the hidden tensor tells nothing apart."""


def duplicate_findings(facts: AuditFacts) -> Iterator[AuditFinding]:
    """Equal samples within a split, and by activations near ones across both."""
    for name, split in (("calibration", facts.calibration), ("validation", facts.validation)):
        twice = split.samples - split.distinct
        if twice:
            grave = twice > _MANY_TWICE * split.samples
            yield AuditFinding(
                check="duplicates",
                severity=Severity.WARNING if grave else Severity.INFO,
                title=f"{twice:,} of {split.samples:,} {name} samples repeat another one exactly",
                evidence="equal SHA-256 of all inputs",
                action="Remove them: they add no evidence, and make intervals too narrow."
                if name == "validation"
                else "Remove them: they add nothing to the ranges.",
            )
    yield from _near(facts)


def _near(facts: AuditFacts) -> Iterator[AuditFinding]:
    own, other = facts.calibration.profiles, facts.validation.profiles
    if own is None or other is None or len(own.ids) < 2:
        return
    _, usual = nearest(own.hidden, own.hidden, same=True)
    typical = float(np.median(usual))
    if typical < _LEAST:
        return
    index, gaps = nearest(other.hidden, own.hidden)
    close = np.flatnonzero(gaps <= _NEAR * typical)
    if close.size:
        pairs = [f"{other.ids[k]} = {own.ids[index[k]]}" for k in close[:_SHOWN]]
        many = close.size > _MANY * len(other.ids)
        yield AuditFinding(
            check="duplicates",
            severity=Severity.WARNING if many else Severity.INFO,
            title=f"{close.size} of {len(other.ids)} validation samples are nearly the same as a "
            "calibration sample",
            evidence=f"cosine distance of the hidden tensors below {_NEAR:.0%} of what is usual "
            f"among calibration samples: {', '.join(pairs)}",
            action="Take the splits from different sources or times: near copies make INT8 look "
            "better than it is.",
            samples=tuple(other.ids[k] for k in close[:_SHOWN]),
        )
    limit = float(usual.max())
    far = np.flatnonzero(gaps > limit)
    p_value = beyond_p_value(far.size, len(other.ids), len(own.ids))
    unlike = far[gaps[far] > (_UNLIKE if p_value < _ALPHA else _FAR_UNLIKE) * limit]
    if unlike.size:
        worst = unlike[np.argsort(-gaps[unlike], kind="stable")]
        yield AuditFinding(
            check="unlike",
            severity=Severity.WARNING,
            title=f"{unlike.size} of {len(other.ids)} validation samples are unlike every "
            "calibration sample looked at",
            evidence=f"cosine distance of the hidden tensors up to {gaps[worst[0]]:.3g}, where "
            f"calibration samples are within {limit:.3g} of each other (p = {p_value:.2g})",
            action="Look at them: "
            + ", ".join(other.ids[k] for k in worst[:_SHOWN])
            + ". If they are as they should be, add such samples to calibration.",
            samples=tuple(other.ids[k] for k in worst[: 4 * _SHOWN]),
        )
