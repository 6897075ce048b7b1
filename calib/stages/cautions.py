"""What a reader must know before trusting a tensor's threshold: a sentence each."""

from collections.abc import Iterator, Mapping

from calib.calibrators import (
    AutoSpec,
    CacheSpec,
    CalibratorSpec,
    MinMaxSpec,
    TensorStatistics,
    clipped_pct,
)
from calib.calibrators.mse import squared_error_at
from calib.stages.thresholds import Thresholds
from calib.stages.unfit import why_unfit

_SHOWN = 5
_STEP = 1 / 127
_HALF_STEP = _STEP / 2
_MUCH = 0.99
_MORE = 2.0
"""Twice the squared error, 3 dB."""


def odd_values(
    statistics: Mapping[str, TensorStatistics], quantized: frozenset[str], before: frozenset[str]
) -> Iterator[str]:
    """Of each tensor that held nothing, one value, or what INT8 cannot hold.

    Args:
        statistics: by tensor, in the order to report.
        quantized: tensors that got a threshold for Q/DQ.
        before: those that would have, but for values that INT8 cannot hold.
    """
    for name, found in statistics.items():
        why = why_unfit(found)
        if why:
            then = "" if name in quantized else ", and has no threshold"
            left = ", and the nodes that read it stay in float" if name in before else then
            yield f"{name} {_odd(found)}{left}"
        elif name not in quantized:
            continue
        elif found.count == 0:
            yield f"{name} held no value in any calibration sample"
        elif found.zeros == found.count:
            yield f"{name} was zero in every calibration sample"
        elif found.minimum == found.maximum:
            yield f"{name} was {found.minimum:g} in every calibration sample"


def _odd(found: TensorStatistics) -> str:
    bad = found.not_finite
    if not bad.values:
        return f"reaches from {found.minimum:g} to {found.maximum:g}: its largest values are a mask"
    total = found.count + bad.values
    ids = ", ".join(bad.ids) + (", …" if bad.samples > len(bad.ids) else "")
    where = f" in {bad.samples:,} samples ({ids})" if bad.samples else ""
    return (
        f"was not always finite: {bad.kinds()} among {total:,} values "
        f"({100 * bad.values / total:.3g} %){where}; only the others count"
    )


def few_values(spec: CalibratorSpec, found: Thresholds) -> Iterator[str]:
    """Where a calibrator had too few values, and minmax was taken in its place."""
    if isinstance(spec, CacheSpec):
        if found.formula:
            yield f"{spec.path} has no scale for {', '.join(found.formula)}: minmax was taken"
        return
    least: dict[str, int] = {}
    tensors: dict[str, list[str]] = {}
    for tensor, wanted in found.fallback.items():
        least[wanted.name] = wanted.values_min
        tensors.setdefault(wanted.name, []).append(tensor)
    for name, given in tensors.items():
        held = ", ".join(f"{t} ({found.values[t]:,})" for t in given[:_SHOWN])
        chosen = "" if name == spec.name else f"{spec.name}: "
        yield (
            f"{chosen}{name} needs {least[name]:,} values to find a threshold from: minmax was "
            f"taken for {held}{_more(given)}. Give more calibration samples."
        )


def clipping(
    spec: CalibratorSpec,
    statistics: Mapping[str, TensorStatistics],
    amax: Mapping[str, float],
    inputs: frozenset[str],
    warn_pct: float,
) -> Iterator[str]:
    """Where a calibrator's thresholds cut off much, or something of a model's input.

    A value is clipped by more than rounding moves it where it is beyond the threshold by more than
    a step. An input's range is known and bounded: clipping is of consequence there if its squared
    error, with that of rounding, is twice what minmax leaves.

    Args:
        spec: the calibrator.
        statistics: of the tensors whose threshold is its own.
        amax: its thresholds.
        inputs: tensors that hold a model input's values.
        warn_pct: share of a tensor's values, in %.
    """
    shares = {n: clipped_pct(s, amax[n] * (1 + _STEP)) for n, s in statistics.items()}
    much = [name for name, share in shares.items() if share > warn_pct]
    own = [
        n for n in statistics if n in inputs and n not in much and _costs(statistics[n], amax[n])
    ]
    given = sorted((*own, *much), key=lambda name: (name not in inputs, -shares[name]))
    if not given:
        return
    parts = (
        f"{'input ' if n in inputs else ''}{n} ({shares[n]:.2g} % beyond {amax[n]:.4g}, of a range "
        f"up to {statistics[n].amax:.4g})"
        for n in given[:_SHOWN]
    )
    if isinstance(spec, AutoSpec):
        what = "Its consumers suffered least so, on samples held out"
    else:
        what = "Give minmax or mse beside it, or auto, which measures what clipping costs"
    yield f"{spec.name} clips much: {', '.join(parts)}{_more(given)}. {what}."


def _costs(statistics: TensorStatistics, amax: float) -> bool:
    if amax >= statistics.amax:
        return False
    least = squared_error_at(statistics, statistics.amax)
    return squared_error_at(statistics, amax) > _MORE * least


def drowned(
    spec: CalibratorSpec, statistics: Mapping[str, TensorStatistics], amax: Mapping[str, float]
) -> Iterator[str]:
    """Where a few large values set a range in which nearly all others are rounded to zero.

    These others are the values below half the threshold.
    """
    given = [name for name, found in statistics.items() if _is_drowned(found, amax[name])]
    if given:
        parts = ", ".join(f"{n} (up to {statistics[n].amax:.4g})" for n in given[:_SHOWN])
        yield (
            f"{spec.name}: a mask or outliers set the range, and all else is rounded to zero: "
            f"{parts}{_more(given)}. Leave their nodes in float with quantization.exclude, or try "
            f"{'auto' if isinstance(spec, MinMaxSpec) else 'quantization: auto'}."
        )


def _is_drowned(statistics: TensorStatistics, amax: float) -> bool:
    counts, width = statistics.counts, statistics.bin_width
    zeroed = int(counts[: int(amax * _HALF_STEP / width)].sum()) - statistics.zeros
    below = int(counts[: int(amax / 2 / width)].sum()) - statistics.zeros
    return zeroed > 0 and zeroed >= _MUCH * below


def _more(names: list[str]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
