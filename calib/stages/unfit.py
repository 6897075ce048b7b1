"""Activations that INT8 cannot hold, whatever the threshold."""

import math
from collections.abc import Iterator, Mapping

from calib.calibrators import TensorStatistics
from calib.graph.select import Selection
from calib.masks import MASK_AMAX

NOT_FINITE = "reads values that are not finite: INT8 has no code for NaN or infinity"
MASK = f"reads values beyond {MASK_AMAX:g}: a mask, beside which INT8 would round all else to zero"


def why_unfit(statistics: TensorStatistics) -> str | None:
    """Why nodes that read this tensor must stay in float; None if they need not.

    Clipped to the range of the finite values, -inf would no longer mask, and NaN becomes some
    number that nobody looks for any more. The same goes for numbers that are masks.
    """
    if statistics.not_finite.values:
        return NOT_FINITE
    return why_out_of_range(-statistics.amax, statistics.amax)


def why_out_of_range(low: float, high: float) -> str | None:
    """The same from a tensor's extremes; NaN where it held one."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOT_FINITE
    return MASK if max(-low, high) > MASK_AMAX else None


def floats_from(selection: Selection, unfit: Mapping[str, str]) -> dict[str, str]:
    """The nodes to leave in float, and why, for such tensors and the reason of each."""
    return {site.node: unfit[site.tensor] for site in selection.activations if site.tensor in unfit}


def unfit_warnings(selection: Selection, unfit: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each such tensor."""
    for tensor, why in unfit.items():
        nodes = [site.node for site in selection.activations if site.tensor == tensor]
        yield f"{tensor}: {', '.join(nodes)} stays in float, since it {why}"
