"""Model inputs whose values in one split are unlike those in the other: preprocessing, mostly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.audit.facts import AuditFacts, InputProfile
from calib.results import AuditFinding, Severity

_WIDTHS = 2.0
"""Beyond a range by twice its width: of what is drawn alike, none in many thousands is."""
_SCALE = 4.0
_FAR = 4.0
_SHOWN = 5
_TINY = 1e-6
_LEAST = 1e-30


@dataclass(frozen=True, slots=True)
class _Odd:
    """Samples of one split that are far from all of the other in some channel."""

    samples: tuple[str, ...]
    channels: tuple[int, ...]
    what: str
    ratio: float


def input_findings(facts: AuditFacts) -> Iterator[AuditFinding]:
    """Scales that differ between the splits, and single samples far from the other split."""
    for name, own in facts.calibration.inputs.items():
        other = facts.validation.inputs.get(name)
        if other is None or not own.statistics.size or not other.statistics.size:
            continue
        scale = _scale(own, other)
        if scale is not None and not 1 / _SCALE < scale < _SCALE:
            yield _whole(name, scale)
            continue
        for split, rest, these in (
            ("validation", "calibration", _odd(own, other)),
            ("calibration", "validation", _odd(other, own)),
        ):
            if these is not None:
                total = len((other if split == "validation" else own).ids)
                yield _single(name, split, rest, these, total)


def _scale(own: InputProfile, other: InputProfile) -> float | None:
    """How many times as large a typical validation sample is, over all channels."""
    typical = [float(np.median(p.statistics[..., 2].max(axis=1))) for p in (other, own)]
    return typical[0] / typical[1] if min(typical) > 0 else None


def _whole(name: str, scale: float) -> AuditFinding:
    larger = scale >= 1
    return AuditFinding(
        check="inputs",
        severity=Severity.ERROR,
        title=f"validation is {scale if larger else 1 / scale:.3g} times "
        f"{'larger' if larger else 'smaller'} than calibration on input {name}: wrong "
        "preprocessing?",
        evidence=f"median over the samples of the largest |{name}|: ratio {scale:.3g}",
        action="Give both splits the same scaling and normalisation.",
        tensor=name,
    )


def _single(name: str, split: str, rest: str, odd: _Odd, total: int) -> AuditFinding:
    channels = ", ".join(map(str, odd.channels[:_SHOWN]))
    more = f" and {len(odd.channels) - _SHOWN} more" if len(odd.channels) > _SHOWN else ""
    where = f"channel{'s' if len(odd.channels) > 1 else ''} {channels}{more}"
    larger = (
        f"up to {odd.ratio:.3g} times larger than {rest}" if odd.ratio > 1 else f"unlike {rest}"
    )
    return AuditFinding(
        check="inputs",
        severity=Severity.ERROR if odd.ratio >= _FAR else Severity.WARNING,
        title=f"{split} is {larger} on input {name}, {where}, in {len(odd.samples)} of {total:,} "
        "samples: wrong preprocessing?",
        evidence=f"the {odd.what} of the channel is beyond the range of {rest} by more than "
        f"{_WIDTHS:g} times its width",
        action="Look at these samples: "
        + ", ".join(odd.samples[:_SHOWN])
        + ". If they are right, give the other split such samples too.",
        tensor=name,
        samples=odd.samples[: 4 * _SHOWN],
        names=tuple(map(str, odd.channels)),
    )


def _odd(known: InputProfile, asked: InputProfile) -> _Odd | None:
    """The samples of one profile that are far from the range of the other, by channel."""
    masks = {
        what: mask
        for what, mask in (
            ("mean", _beyond(known.statistics[..., 0], asked.statistics[..., 0])),
            ("deviation", _beyond_log(known, asked, 1, both=True)),
            ("largest value", _beyond_log(known, asked, 2, both=False)),
        )
        if mask.any() and (what != "deviation" or min(known.values, asked.values) > 1)
    }
    if not masks:
        return None
    what = max(masks, key=lambda name: int(masks[name].any(axis=1).sum()))
    mask = np.logical_or.reduce(list(masks.values()))
    samples, channels = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    largest = _largest(known, 2)[channels]
    reached = np.where(mask, asked.statistics[..., 2], 0.0).max(axis=0)[channels]
    return _Odd(
        tuple(asked.ids[k] for k in samples),
        tuple(int(k) for k in channels),
        what,
        float((reached / np.maximum(largest, _LEAST)).max(initial=0.0)),
    )


def _largest(known: InputProfile, at: int) -> NDArray[np.float64]:
    """The largest size by channel; of one that was always zero, the largest of all channels.

    A sparse feature that the known samples never had is not large for being there at all.
    """
    top = known.statistics[..., at].max(axis=0).astype(np.float64)
    return np.asarray(np.where(top > 0, top, top.max(initial=0.0)))


def _beyond(known: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where values are beyond the range of the known ones by some of its widths, by channel.

    A channel that hardly moves gets the width of a typical one.
    """
    low, high = (f(known.astype(np.float64), axis=0) for f in (np.min, np.max))
    widths = high - low
    typical = float(np.median(widths)) or float(np.abs(known).max(initial=0.0)) or 1.0
    room = _WIDTHS * np.maximum(widths, typical)
    return np.asarray((asked > high + room) | (asked < low - room))


def _beyond_log(
    known: InputProfile, asked: InputProfile, at: int, *, both: bool
) -> NDArray[np.bool_]:
    """The same for a size, on a logarithmic scale; upwards only unless `both`."""
    top = _largest(known, at)
    floor = max(float(top.max(initial=0.0)) * _TINY, _LEAST)
    logs = [np.log(np.maximum(p.statistics[..., at], floor)) for p in (known, asked)]
    low, high = logs[0].min(axis=0), np.log(np.maximum(top, floor))
    room = _WIDTHS * np.maximum(high - low, np.log(2.0))
    up = logs[1] > high + room
    return np.asarray(up | (logs[1] < low - room) if both else up)
