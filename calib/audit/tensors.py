"""Activations on calibration and on validation samples: ranges, what is clipped, distance."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calib.analysis.profiles import Profiles
from calib.audit.facts import AuditFacts
from calib.audit.two_samples import beyond_p_value, distances, standardised
from calib.gate.statistics import holm
from calib.results import AuditFinding, Saturation, Severity, TensorAudit

_ALPHA = 0.01
_FAR = 0.1
_VERY_FAR = 0.5
_BEYOND = 1.25
_FAR_BEYOND = 4.0
_LOST_PCT = 1.0
_MUCH_LOST_PCT = 10.0
_MUCH_CLIPPED_PCT = 10.0
_NOTHING_PCT = 0.01
"""Energy lost to clipping that no figure of a model shows: -40 dB of the tensor, and less than what
8 bits round away of most."""
_WIDE = 4.0
_SHOWN = 5
_RESAMPLES = 200
_SEED = 0
_TINY = 1e-30


def audit_tensors(facts: AuditFacts) -> tuple[TensorAudit, ...]:
    """Each calibrated activation that was looked at on both splits, in graph order."""
    own, other = facts.calibration.profiles, facts.validation.profiles
    if own is None or other is None or min(len(own.ids), len(other.ids)) < 2:
        return ()
    far = distances(
        {
            name: standardised(_features(own, k), _features(other, k))
            for k, name in enumerate(own.tensors)
        }
    )
    by_name = {a.tensor: a for a in facts.record.activations}
    spread = _resampling_pct(own.amax)
    found = []
    for k, name in enumerate(own.tensors):
        record = by_name[name]
        largest = max(abs(record.minimum or 0.0), abs(record.maximum or 0.0))
        amax = other.amax[:, k]
        beyond, worst = int((amax > largest).sum()), int(amax.argmax())
        middle = float(np.median(own.amax[:, k]))
        found.append(
            TensorAudit(
                tensor=name,
                nodes=record.consumers,
                distance=far[name].value,
                p_value=far[name].p_value,
                p_adjusted=far[name].p_adjusted,
                amax_ratio=float(np.median(amax)) / middle if middle else None,
                beyond=beyond,
                beyond_p=beyond_p_value(beyond, len(amax), facts.record.samples),
                beyond_ratio=float(amax[worst]) / largest if largest else 0.0,
                beyond_sample=other.ids[worst],
                saturation=_saturation(own, other, k),
                resampling_pct=float(spread[k]),
            )
        )
    return tuple(found)


def _features(profiles: Profiles, tensor: int) -> NDArray[np.float64]:
    """What a sample's tensor is like, (samples, 3): sizes as logarithms, the mean as a share."""
    amax, mean, rms = profiles.statistics[:, tensor].T
    share = np.divide(mean, rms, out=np.zeros_like(mean), where=rms > 0)
    return np.stack([np.log(amax + _TINY), np.log(rms + _TINY), share], axis=1)


def _saturation(own: Profiles, other: Profiles, tensor: int) -> dict[str, Saturation]:
    shares = [_shares(profiles, tensor) for profiles in (other, own)]
    return {
        name: Saturation(
            clipped_pct=shares[0][0][k],
            lost_pct=shares[0][1][k],
            calibration_clipped_pct=shares[1][0][k],
            calibration_lost_pct=shares[1][1][k],
        )
        for k, name in enumerate(own.calibrators)
    }


def _shares(profiles: Profiles, tensor: int) -> tuple[list[float], list[float]]:
    """Values clipped, and energy lost, of all samples together, in %, by calibrator."""
    values = max(int(profiles.values[:, tensor].sum()), 1)
    energy = float(profiles.energy[:, tensor].sum()) or 1.0
    clipped = 100 * profiles.clipped[:, tensor].sum(axis=0) / values
    lost = 100 * profiles.lost[:, tensor].sum(axis=0) / energy
    return [float(x) for x in clipped], [float(x) for x in lost]


def _resampling_pct(amax: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the largest of (samples, tensors), by bootstrap, in % of it."""
    rng = np.random.default_rng(_SEED)
    drawn = np.stack(
        [amax[rng.integers(0, len(amax), len(amax))].max(axis=0) for _ in range(_RESAMPLES)]
    )
    largest = amax.max(axis=0)
    return np.asarray(100 * drawn.std(axis=0) / np.where(largest > 0, largest, 1.0))


def tensor_findings(facts: AuditFacts, tensors: tuple[TensorAudit, ...]) -> Iterator[AuditFinding]:
    """Ranges left, thresholds too small or too large, distributions that differ."""
    yield from _ranges(facts, tensors)
    for calibrator in facts.record.calibrators:
        yield from _clipping(tensors, calibrator)
        yield from _too_wide(facts, calibrator)
    yield from _distance(tensors)


def _ranges(facts: AuditFacts, tensors: tuple[TensorAudit, ...]) -> Iterator[AuditFinding]:
    p_values = holm([t.beyond_p for t in tensors])
    left = [
        t
        for t, p in zip(tensors, p_values, strict=True)
        if (p < _ALPHA and t.beyond_ratio >= _BEYOND) or t.beyond_ratio >= _FAR_BEYOND
    ]
    if not left:
        return
    worst = max(left, key=lambda t: t.beyond_ratio)
    validation = facts.validation.profiles
    count = len(validation.ids) if validation else 0
    yield AuditFinding(
        check="ranges",
        severity=_severity(left),
        title=f"validation leaves the calibrated range, up to {worst.beyond_ratio:.3g} times, in "
        f"{_tensors(left)}",
        evidence="; ".join(
            f"{t.tensor}: {t.beyond} of {count} samples beyond all {facts.record.samples:,} of "
            f"calibration, up to {t.beyond_ratio:.3g} times (p = {_p(t.beyond_p)}); clipping takes "
            f"{_lost_pct(t):.2g} % of its energy"
            for t in _first(left, worst)
        ),
        action=f"Look at sample {worst.beyond_sample}: if it is as it should be, calibration "
        "lacks such samples and should get some; else repair it.",
        tensor=worst.tensor,
        nodes=worst.nodes,
        samples=tuple(dict.fromkeys(t.beyond_sample for t in (worst, *left)))[:_SHOWN],
    )


def _severity(left: list[TensorAudit]) -> Severity:
    """By what it costs: how far a single value reaches says nothing of that.

    The verdict is passed on these very samples, so it knows of the loss. It cannot be trusted where
    a tensor is another one than calibration's: far beyond it, and clipped to something else.
    """
    worst = max(_lost_pct(t) for t in left)
    if any(t.beyond_ratio >= _FAR_BEYOND and _lost_pct(t) >= _MUCH_LOST_PCT for t in left):
        return Severity.ERROR
    return Severity.WARNING if worst >= _NOTHING_PCT else Severity.INFO


def _lost_pct(tensor: TensorAudit) -> float:
    """Energy that clipping takes even with the calibrator that is widest there, in %.

    One that clips on purpose is told of by itself.
    """
    return min((s.lost_pct for s in tensor.saturation.values()), default=0.0)


def _clipping(tensors: tuple[TensorAudit, ...], calibrator: str) -> Iterator[AuditFinding]:
    lossy = [t for t in tensors if t.saturation[calibrator].lost_pct >= _LOST_PCT]
    if not lossy:
        return
    worst = max(lossy, key=lambda t: t.saturation[calibrator].lost_pct)
    own = worst.saturation[calibrator]
    known = own.calibration_lost_pct >= own.lost_pct / 3
    grave = own.lost_pct >= _MUCH_LOST_PCT and own.clipped_pct >= _MUCH_CLIPPED_PCT
    yield AuditFinding(
        check="saturation",
        severity=Severity.ERROR if grave else Severity.WARNING,
        title=f"{calibrator} clips {own.lost_pct:.3g} % of the energy of {worst.tensor} in "
        "validation" + (f", and much of {_others(len(lossy) - 1)}" if len(lossy) > 1 else ""),
        evidence="; ".join(
            f"{t.tensor}: {s.clipped_pct:.3g} % of the values, {s.lost_pct:.3g} % of the energy "
            f"(calibration {s.calibration_clipped_pct:.3g} % and {s.calibration_lost_pct:.3g} %)"
            for t in _first(lossy, worst)
            for s in [t.saturation[calibrator]]
        ),
        action=(
            "The threshold is too small for calibration's own samples: try minmax or mse, or find "
            "out where its scale comes from."
            if known
            else "Calibration's samples do not reach as far: add samples like validation's."
        ),
        tensor=worst.tensor,
        nodes=worst.nodes,
    )


def _too_wide(facts: AuditFacts, calibrator: str) -> Iterator[AuditFinding]:
    wide = {
        a.tensor: a.amax[calibrator] / largest
        for a in facts.record.activations
        if (largest := max(abs(a.minimum or 0.0), abs(a.maximum or 0.0))) > 0
        and a.amax[calibrator] >= _WIDE * largest
    }
    if wide:
        worst = max(wide, key=lambda name: wide[name])
        nodes = next(a.consumers for a in facts.record.activations if a.tensor == worst)
        yield AuditFinding(
            check="saturation",
            severity=Severity.WARNING,
            title=f"{calibrator}'s threshold of {worst} is {wide[worst]:.3g} times what "
            "calibration reached",
            evidence="; ".join(f"{n}: {x:.3g} times" for n, x in list(wide.items())[:_SHOWN]),
            action="Most INT8 codes are never used: find out where its scale comes from.",
            tensor=worst,
            nodes=nodes,
        )


def _distance(tensors: tuple[TensorAudit, ...]) -> Iterator[AuditFinding]:
    far = [t for t in tensors if t.p_adjusted < _ALPHA and t.distance >= _FAR]
    if not far:
        return
    worst = max(far, key=lambda t: t.distance)
    yield AuditFinding(
        check="distance",
        severity=Severity.ERROR if worst.distance >= _VERY_FAR else Severity.WARNING,
        title=f"calibration and validation differ in {_tensors(far)}"
        + (f", the first of them {far[0].tensor}" if len(far) > 1 else ""),
        evidence="; ".join(
            f"{t.tensor}: distance {t.distance:.2f} of 1, p = {_p(t.p_adjusted)} for all tensors "
            f"at once"
            + (f", median amax {t.amax_ratio:.3g} times" if t.amax_ratio is not None else "")
            for t in _first(far, worst)
        ),
        action="Draw both splits from the same source, with the same preprocessing"
        + (
            f"; what differs first is nearest to the cause: {far[0].tensor}."
            if len(far) > 1
            else "."
        ),
        tensor=far[0].tensor,
        nodes=far[0].nodes,
    )


def _first(found: list[TensorAudit], worst: TensorAudit) -> list[TensorAudit]:
    """The worst, then the others in graph order."""
    return [worst, *(t for t in found if t is not worst)][:_SHOWN]


def _tensors(found: list[TensorAudit]) -> str:
    return found[0].tensor if len(found) == 1 else f"{len(found)} tensors"


def _p(value: float) -> str:
    return f"{value:.2g}"


def _others(count: int) -> str:
    return "one other" if count == 1 else f"{count} others"
