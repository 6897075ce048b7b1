"""INT8 in the layout of the config, and the ranges that ONNX Runtime's needs."""

from collections.abc import Iterable, Mapping

from calib.calibrators import (
    AutoSpec,
    CacheSpec,
    CalibratorSpec,
    TensorStatistics,
    amax_from_statistics,
)
from calib.calibrators.cache import load_amax
from calib.graph.native import Range, symmetric_range
from calib.remedies.quantized_input import Equalized
from calib.stages.fit import Fitted


def ranges_from(
    fitted: Fitted,
    equalized: Mapping[str, Equalized],
    renamed: Mapping[str, str],
    amax: Mapping[str, float],
) -> dict[str, Range]:
    """(minimum, maximum) of every activation of a rewritten model that may be rounded.

    Args:
        fitted: what was seen of the model as it was.
        equalized: what is done to its activations.
        renamed: the rewritten activation's name by the old one's.
        amax: thresholds of both, for those of which nothing was seen.
    """
    ranges = dict(fitted.spans)
    for tensor, sample in fitted.samples.items():
        ranges[tensor] = float(sample.low.min()), float(sample.high.max())
    for tensor, new in renamed.items():
        choice = equalized[tensor]
        # A shift is a whole number of steps of its own grid.
        ranges[new] = choice.span or symmetric_range(choice.amax)
    for tensor, largest in amax.items():
        ranges.setdefault(tensor, (-largest, largest))
    return ranges


def clipped_ranges(
    tensors: Iterable[str],
    seen: Mapping[str, TensorStatistics],
    amax: Mapping[str, float],
    aligned: Mapping[str, float],
) -> dict[str, Range]:
    """What was seen of each tensor that has a threshold, as far as that lets it.

    Args:
        tensors: what may be rounded.
        seen: statistics of them.
        amax: thresholds.
        aligned: thresholds that belong to a shift, which is a whole number of their steps.
    """
    found: dict[str, Range] = {}
    for name in tensors:
        if name in aligned:
            found[name] = symmetric_range(aligned[name])
        elif name in amax:
            low, high = -amax[name], amax[name]
            some = seen[name]
            found[name] = (
                (max(some.minimum, low), min(some.maximum, high)) if some.count else (low, high)
            )
    return found


def other_thresholds(
    spec: CalibratorSpec, statistics: dict[str, TensorStatistics]
) -> dict[str, float]:
    """Thresholds of tensors that are not quantized.

    Auto, which has no consumer to try them on, takes its first candidate; a cache has what it has.
    """
    if isinstance(spec, CacheSpec):
        given = load_amax(spec.path)
        return {name: given[name] for name in statistics if name in given}
    formula = spec.candidates[0] if isinstance(spec, AutoSpec) else spec
    return {name: amax_from_statistics(formula, s) for name, s in statistics.items()}
