"""Limits on single samples rather than averages: confident flips, the worst losses, saturation."""

import math

from scipy.stats import binom

from calib.gate.facts import Facts, Found
from calib.gate.sample_size import share_samples
from calib.gate.statistics import Interval, exact_interval
from calib.results import TailSummary

_QUANTILE = 0.99
_NO_SAMPLES = "no samples were compared"


def confident_flips(facts: Facts) -> Found:
    """Predictions that changed, of the samples that FP32 was sure of."""
    moved, wanted = facts.candidate.moved, facts.limits.confident_pct
    known = moved.confident if moved else ()
    sure = next((c for c in known if round(100 * c.probability) == wanted), None)
    if sure is None:
        return Found(None, 0, "no probabilities are known")
    if not sure.samples:
        return Found(None, 0, f"FP32 gives no prediction a probability of {wanted} %")
    count, samples, alpha = sure.flips, sure.samples, facts.alpha
    return Found(
        100 * count / samples,
        samples,
        f"{count} of {samples:,} samples with a probability of {wanted} % or more in FP32, "
        f"{sure.worsened} of them right before",
        exact_interval(count, samples, alpha).scaled(100),
        "Clopper and Pearson's exact interval",
        lambda limit: share_samples((count + 0.5) / (samples + 1), limit / 100, alpha),
        unit=f"samples of which FP32 is sure to {wanted} %",
    )


def margin_loss_p99(facts: Facts) -> Found:
    """The loss of margin that 99 % of the samples do not exceed."""
    moved = facts.candidate.moved
    if moved is None or not moved.samples:
        return Found(None, 0, _NO_SAMPLES)
    least = math.ceil(math.log(facts.alpha) / math.log(_QUANTILE))
    return Found(
        moved.margin_loss["99"],
        moved.samples,
        f"the largest is {moved.margin_loss['100']:.4g}",
        quantile_interval(moved, facts.alpha),
        "order statistics, exact",
        # Fewer samples have no upper bound; with more it depends on what the new ones are.
        lambda _: least if moved.samples < least else None,
    )


def quantile_interval(moved: TailSummary, alpha: float) -> Interval:
    """Exact bounds of the 99th percentile, between two of the losses: order statistics.

    At most k of n losses are below the percentile with probability B(k; n, 0.99). The upper bound
    is infinite where even the largest of so few losses may be below it.

    Args:
        moved: the losses.
        alpha: chance of an error on each side.
    """
    count, kept = moved.samples, moved.worst_losses
    above = int(binom.ppf(1 - alpha, count, _QUANTILE)) + 1
    below = int(binom.ppf(alpha, count, _QUANTILE))
    high = kept[count - above] if above <= count else math.inf
    inside = below > 0 and count - below < len(kept)
    return Interval(kept[count - below] if inside else -math.inf, high)


def saturation(facts: Facts) -> Found:
    """Values of validation samples beyond the threshold, of the tensor where they are the most."""
    audit, calibrator = facts.result.audit, facts.candidate.calibrator
    shares = {
        tensor.tensor: tensor.saturation[calibrator].clipped_pct
        for tensor in (audit.tensors if audit else ())
        if calibrator in tensor.saturation
    }
    if audit is None or not shares:
        return Found(None, 0, "no validation sample was looked at inside the model")
    worst = max(shares, key=lambda name: shares[name])
    return Found(shares[worst], audit.validation_samples, f"tensor {worst}")
