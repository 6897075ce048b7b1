"""What changed between two calibration caches, the most dangerous first."""

import math
from dataclasses import dataclass
from enum import IntEnum

from calib.calibrators.trt_cache import CalibrationCache, is_usable


class Change(IntEnum):
    """What became of a tensor, the worst first."""

    GONE = 0
    UNUSABLE = 1
    CHANGED = 2
    NEW = 3
    SAME = 4


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """One tensor in two caches.

    Attributes:
        tensor: its name.
        before: float32 scale in the first cache; None if it is not there.
        after: the same for the second.
        change: what became of it.
    """

    tensor: str
    before: float | None
    after: float | None
    change: Change

    @property
    def ratio(self) -> float | None:
        """After / before; None unless both can be used."""
        if self.change in (Change.CHANGED, Change.SAME) and self.before and self.after:
            return self.after / self.before
        return None

    @property
    def bits_lost(self) -> float | None:
        """log2 of the ratio where the scale grew: the steps are that much coarser; else 0."""
        return None if self.ratio is None else max(0.0, math.log2(self.ratio))

    @property
    def range_lost_pct(self) -> float | None:
        """Share of the old range that is clipped now, in %; 0 where the scale grew."""
        return None if self.ratio is None else max(0.0, 100 * (1 - self.ratio))

    @property
    def meaning(self) -> str:
        """What it means for the engine, in a clause."""
        if self.change is Change.GONE:
            return "no scale any more: TensorRT leaves it in float without saying so"
        if self.change is Change.UNUSABLE:
            return "a scale that is not finite and positive"
        if self.change is Change.NEW:
            return "had no scale before"
        if self.ratio is None or self.change is Change.SAME:
            return ""
        if self.ratio > 1:
            return f"{self.bits_lost:.2g} bits coarser"
        return f"clips the upper {self.range_lost_pct:.3g} % of the old range"


def diff_caches(before: CalibrationCache, after: CalibrationCache) -> tuple[ScaleChange, ...]:
    """Every tensor of either cache: gone, unusable, changed by falling |log2 ratio|, new, same."""
    names = dict.fromkeys((*before.scales, *after.scales))
    rows = [_row(name, before.scales.get(name), after.scales.get(name)) for name in names]
    return tuple(sorted(rows, key=lambda row: (row.change, -_distance(row))))


def _row(name: str, before: float | None, after: float | None) -> ScaleChange:
    if after is None:
        change = Change.GONE
    elif not is_usable(after) or (before is not None and not is_usable(before)):
        change = Change.UNUSABLE
    elif before is None:
        change = Change.NEW
    else:
        change = Change.SAME if before == after else Change.CHANGED
    return ScaleChange(name, before, after, change)


def _distance(row: ScaleChange) -> float:
    return abs(math.log2(row.ratio)) if row.ratio else 0.0
