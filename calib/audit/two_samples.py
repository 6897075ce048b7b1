"""Whether two sets of samples may have been drawn alike: exact, or by permutation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1999
_SEED = 0
_BATCH = 500
_SLACK = 1e-4
"""In standard deviations: what float32 makes of two permutations that are as far apart."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far apart two sets are.

    Attributes:
        value: E / (2 E|x - y|) where E is the energy distance, 0 (alike) to 1.
        p_value: share of the permutations that are as far apart.
        p_adjusted: share of the permutations in which any of the tests is.
    """

    value: float
    p_value: float
    p_adjusted: float


def distances(
    pairs: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    resamples: int = RESAMPLES,
) -> dict[str, Distance]:
    """The energy distance of each pair of sets, and its permutation p-values.

    E = 2 E|x-y| - E|x-x'| - E|y-y'| (Székely & Rizzo, J. Stat. Plan. Inference 143, 2013), which is
    0 only for equal distributions. The samples are the same in all pairs, so one permutation of
    them serves all tests, and the largest of the standardised distances gives p-values that hold
    for all tests at once (Westfall & Young 1993, single step): Holm's correction of permutation
    p-values, which end at 1/(resamples + 1), would find nothing among many tensors. Both p-values
    count the observation itself (Phipson & Smyth 2010).

    Args:
        pairs: by name: float64 (n, features) and (m, features), standardised; n and m as in the
            others, both > 1.
        resamples: permutations.
    """
    if not pairs:
        return {}
    first, second = next(iter(pairs.values()))
    groups = _memberships(len(first), len(second), resamples)
    found: dict[str, tuple[float, NDArray[np.float64]]] = {}
    for name, (x, y) in pairs.items():
        energies, cross = _energies(np.concatenate([x, y]), groups)
        share = float(energies[0] / (2 * cross)) if cross > 0 else 0.0
        found[name] = (min(max(share, 0.0), 1.0), energies)
    table = np.stack([energies for _, energies in found.values()])
    spread = table.std(axis=1, keepdims=True)
    standard = (table - table.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    largest = standard.max(axis=0)
    return {
        name: Distance(
            share,
            float((standard[k] >= standard[k, 0] - _SLACK).mean()),
            float((largest >= standard[k, 0] - _SLACK).mean()),
        )
        for k, (name, (share, _)) in enumerate(found.items())
    }


def _memberships(n: int, m: int, resamples: int) -> NDArray[np.float32]:
    """1 where a sample is of the first set: float32 (1 + resamples, n + m), the real one first."""
    rng = np.random.default_rng(_SEED)
    real = np.concatenate([np.ones(n, np.float32), np.zeros(m, np.float32)])
    drawn = rng.permuted(np.broadcast_to(real, (resamples, n + m)), axis=1)
    return np.concatenate([real[None], drawn])


def _energies(
    points: NDArray[np.float64], groups: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """The energy distance under each membership; the mean distance across of the first one."""
    square = np.square(points).sum(axis=1)
    gaps = np.sqrt(np.maximum(square[:, None] + square - 2 * points @ points.T, 0.0))
    np.fill_diagonal(gaps, 0.0)
    narrow, rows, total = gaps.astype(np.float32), gaps.sum(axis=1), float(gaps.sum())
    n = int(groups[0].sum())
    m = groups.shape[1] - n
    inside = np.concatenate(
        [
            ((part @ narrow) * part).sum(axis=1, dtype=np.float64)
            for part in np.split(groups, range(_BATCH, len(groups), _BATCH))
        ]
    )
    touching = groups.astype(np.float64) @ rows
    across = touching - inside
    outside = total - 2 * touching + inside
    energies = 2 * across / (n * m) - inside / n**2 - outside / m**2
    return energies, float(across[0] / (n * m))


def standardised(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets with features of mean 0 and deviation 1 over both together, (n, f) and (m, f)."""
    both = np.concatenate([first, second])
    spread = both.std(axis=0)
    spread[spread <= 1e-12 * (1 + np.abs(both).max(axis=0))] = np.inf
    middle = both.mean(axis=0)
    return (first - middle) / spread, (second - middle) / spread


def beyond_p_value(beyond: int, new: int, old: int) -> float:
    """The chance that so many of the new samples or more exceed all of the old ones.

    If all were drawn alike, any of them may be the largest: the k largest are all new with
    probability Π (new - i) / (new + old - i), i < k. Exact; ties make it smaller still.
    """
    steps = np.arange(beyond, dtype=np.float64)
    return float(np.prod((new - steps) / (new + old - steps))) if beyond <= new else 0.0
