"""A candidate against FP32, and against FP16, on the same samples."""

from collections.abc import Iterator

from calib.gate.facts import Facts
from calib.gate.statistics import (
    PairedCounts,
    mcnemar_p,
    newcombe_interval,
    tango_interval,
)
from calib.results import PairedVerdict


def paired_verdicts(facts: Facts) -> tuple[PairedVerdict, ...]:
    """What is known of each rival; nothing where there are no labelled samples."""
    return tuple(_paired_verdict(rival, c, facts.alpha) for rival, c in _rivals(facts))


def _rivals(facts: Facts) -> Iterator[tuple[str, PairedCounts]]:
    counts = facts.counts()
    if counts is not None:
        yield "fp32", counts
    for p in facts.candidate.paired:
        if p.samples:
            yield p.rival, PairedCounts(p.samples, p.worsened, p.improved, p.right)


def _paired_verdict(rival: str, counts: PairedCounts, alpha: float) -> PairedVerdict:
    tango = tango_interval(counts, alpha, corrected=True).scaled(100)
    newcombe = newcombe_interval(counts, alpha).scaled(100)
    return PairedVerdict(
        rival=rival,
        samples=counts.samples,
        worsened=counts.lost,
        improved=counts.gained,
        drop_points=100 * counts.drop,
        low=tango.low,
        high=tango.high,
        newcombe_low=newcombe.low,
        newcombe_high=newcombe.high,
        mcnemar_p=mcnemar_p(counts),
        alpha=alpha,
    )
