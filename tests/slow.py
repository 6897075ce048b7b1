"""Calibrators written for clarity: slow, in float64, independent of the compiled ones."""

import itertools

import numpy as np
from scipy import stats


def slow_entropy(statistics, levels=128):
    """The published search, written for clarity: scipy's KL divergence for each candidate."""
    counts = statistics.counts[: statistics.bins_used].astype(np.float64)
    counts[0] = counts[1]
    best, least = None, np.inf
    for kept in range(levels, counts.size + 1):
        p = counts[:kept].copy()
        q = np.zeros(kept)
        edges = [level * kept // levels for level in range(levels + 1)]
        p[-1] += counts[kept:].sum()
        for start, stop in itertools.pairwise(edges):
            occupied = p[start:stop] > 0
            if occupied.any():
                q[start:stop][occupied] = counts[start:stop].sum() / occupied.sum()
        with np.errstate(all="ignore"):
            divergence = stats.entropy(p, q) if q.sum() else np.inf
        if divergence <= least:
            best, least = kept, divergence
    return min((best + 0.5) * statistics.bin_width, statistics.amax)
