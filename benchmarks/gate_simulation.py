"""Releases whose true loss is known, judged by the gate: how often does a bad one pass?

A release is k INT8 candidates on n labelled samples, each in s slices of equal size. Of every slice
it is known how large a share is truly lost and how large a share gained; the counts are drawn. The
gate sees the counts alone. A false pass is a PASS although each candidate loses as much as the
limit, overall or in one slice; it may happen to a share `alpha` of such releases, however many
candidates and slices there are. Candidates are drawn independently, which is where choosing the
best of them flatters most. Power is the share of good releases that pass at the size which
`calib plan` recommends.

The bounds are the gate's own, of every distinct count once; of each setting the first releases also
go through `evaluate`, as records of a run, and must come to the same verdict.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from calib.gate.judging import evaluate  # noqa: E402
from calib.gate.limits import LimitsSpec  # noqa: E402
from calib.gate.sample_size import POWER, drop_samples  # noqa: E402
from calib.gate.statistics import tango_bounds  # noqa: E402
from calib.results import (  # noqa: E402
    CandidateRecord,
    FlipSummary,
    Precision,
    RunResult,
    SliceScore,
    TaskKind,
    TaskScore,
    Verdict,
)

RELEASES = 10_000
ALPHA = 0.05
LUCK = 1e-4
"""A setting misses its target where its figure has less than this chance if the target holds."""
_THROUGH_THE_GATE = 20
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is true, and what is asked.

    Attributes:
        samples: of a release, a multiple of `slices`.
        accuracy: of FP32.
        gained: true share that is wrong in FP32 and right in the candidate.
        drop: true drop of each candidate in the first `bad_slices` slices; elsewhere it is 0.
        limit: of the drop overall; None asks nothing.
        slice_limit: of the drop of the worst slice; None asks nothing.
        candidates: k.
        slices: s.
        bad_slices: how many of them have the drop.
    """

    samples: int
    accuracy: float
    gained: float
    drop: float
    limit: float | None
    slice_limit: float | None = None
    candidates: int = 1
    slices: int = 1
    bad_slices: int = 1

    @property
    def alpha(self) -> float:
        """What each candidate is judged with."""
        return ALPHA / self.candidates

    def __str__(self) -> str:
        asked = self.limit if self.limit is not None else self.slice_limit
        scope = "overall" if self.limit is not None else f"1 of {self.slices} slices"
        return (
            f"| {100 * (asked or 0):g} | {scope} | {100 * self.drop:g} | {self.samples:,} | "
            f"{100 * self.accuracy:g} | {100 * self.gained:g} | {self.candidates} |"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Shares of the releases by their verdict."""

    passed: float
    failed: float


def simulate(setting: Setting, releases: int, seed: int = 0) -> Outcome:
    """Draw releases and judge them.

    Raises:
        AssertionError: if `evaluate` comes to another verdict on the same counts.
    """
    rng = np.random.default_rng(seed)
    lost, gained = _drawn(setting, releases, rng)
    verdicts = _verdicts(setting, lost, gained)
    for i in range(min(_THROUGH_THE_GATE, releases)):
        judged = evaluate(_run(setting, lost[i], gained[i]), _limits(setting)).verdict
        assert (judged is Verdict.PASS) == verdicts[i], (setting, i)
    return Outcome(float(verdicts.mean()), _failed(setting, lost, gained))


def _drawn(setting: Setting, releases: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Counts lost and gained, int64 (releases, candidates, slices)."""
    each = setting.samples // setting.slices
    shape = (releases, setting.candidates)
    lost, gained = [], []
    for number in range(setting.slices):
        drop = setting.drop if number < setting.bad_slices else 0.0
        b, c = setting.gained + drop, setting.gained
        drawn = rng.multinomial(each, [b, c, 1 - b - c], size=shape)
        lost.append(drawn[..., 0])
        gained.append(drawn[..., 1])
    return np.stack(lost, axis=-1), np.stack(gained, axis=-1)


def _verdicts(setting: Setting, lost: Counts, gained: Counts) -> NDArray[np.bool_]:
    """Whether each release passes: whether one of its candidates keeps every limit."""
    kept = np.ones(lost.shape[:2], dtype=np.bool_)
    if setting.limit is not None:
        _, high = _bounds(setting, lost.sum(axis=2), gained.sum(axis=2), setting.samples)
        kept &= high <= setting.limit
    if setting.slice_limit is not None:
        _, high = _bounds(setting, lost, gained, setting.samples // setting.slices)
        kept &= (high <= setting.slice_limit).all(axis=2)
    return np.asarray(kept.any(axis=1))


def _failed(setting: Setting, lost: Counts, gained: Counts) -> float:
    """Share of releases of which every candidate is called worse than the limit overall."""
    if setting.limit is None:
        return float("nan")
    low, _ = _bounds(setting, lost.sum(axis=2), gained.sum(axis=2), setting.samples)
    return float((low > setting.limit).all(axis=1).mean())


def _bounds(
    setting: Setting, lost: Counts, gained: Counts, samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs, where = np.unique(np.stack([lost.ravel(), gained.ravel()]), axis=1, return_inverse=True)
    low, high = tango_bounds(samples, pairs[0], pairs[1], setting.alpha, corrected=True)
    return low[where].reshape(lost.shape), high[where].reshape(lost.shape)


def _limits(setting: Setting) -> LimitsSpec:
    def points(share: float | None) -> float | None:
        return None if share is None else 100 * share

    return LimitsSpec(
        alpha=ALPHA,
        accuracy_drop_points_max=points(setting.limit),
        worst_slice_drop_points_max=points(setting.slice_limit),
        worst_slice_min_samples=1,
    )


def _run(setting: Setting, lost: Counts, gained: Counts) -> RunResult:
    """The records of one release; what no rule looks at is left out."""
    candidates = [
        _candidate(setting, f"int8-{number}", lost[number], gained[number])
        for number in range(setting.candidates)
    ]
    return RunResult.model_construct(candidates=tuple(candidates), config={})


def _candidate(setting: Setting, name: str, lost: Counts, gained: Counts) -> CandidateRecord:
    n, each = setting.samples, setting.samples // setting.slices
    right = round(setting.accuracy * n)
    b, c = int(lost.sum()), int(gained.sum())
    right = min(max(right, b), n - c)
    return CandidateRecord(
        name=name,
        precision=Precision.INT8,
        calibrator=name,
        rest=Precision.FP32,
        model_path="",
        model_sha256="",
        size_bytes=0,
        peak_memory_bytes=None,
        score=TaskScore(
            kind=TaskKind.CLASSIFICATION,
            samples=n,
            accuracy_pct=100 * (right - b + c) / n,
            reference_accuracy_pct=100 * right / n,
        ),
        flips=FlipSummary(samples=n, total=b + c, worsened=b, improved=c, sideways=0, unlabelled=0),
        slices=tuple(
            SliceScore(
                family="slice",
                name=str(i),
                samples=each,
                right=0,
                worsened=int(lost[i]),
                improved=int(gained[i]),
                flips=int(lost[i] + gained[i]),
            )
            for i in range(setting.slices)
        ),
    )


def bad_settings() -> Iterator[Setting]:
    """Releases that must not pass: they lose just as much as the limit, or more."""
    for samples in (500, 2_000, 8_000):
        for limit in (0.005, 0.01, 0.02):
            for accuracy, gained in ((0.6, 0.03), (0.9, 0.005), (0.99, 0.001), (0.9, 0.0)):
                yield Setting(samples, accuracy, gained, drop=limit, limit=limit)
        # Where counts move in whole steps a bound is easily too low: 2.71 lost are expected.
        yield Setting(samples, 0.9, 0.0, drop=2.71 / samples, limit=2.71 / samples)
    yield Setting(2_000, 0.9, 0.005, drop=0.02, limit=0.01)
    for candidates in (3, 5, 10):
        for samples in (2_000, 8_000):
            yield Setting(samples, 0.9, 0.005, 0.01, 0.01, candidates=candidates)
    for slices in (5, 20):
        for candidates in (1, 5):
            yield Setting(
                10_000, 0.9, 0.003, 0.03, None, 0.03, candidates=candidates, slices=slices
            )
    yield replace(Setting(10_000, 0.9, 0.003, 0.03, None, 0.03, slices=20), bad_slices=20)


def good_settings() -> Iterator[Setting]:
    """Releases that lose nothing, or half the limit, at the recommended number of samples."""
    for limit in (0.005, 0.01, 0.02):
        for accuracy, gained in ((0.6, 0.03), (0.9, 0.005), (0.99, 0.001)):
            for drop in (0.0, limit / 2):
                for candidates in (1, 5):
                    n = drop_samples(gained + drop, gained, limit, ALPHA / candidates)
                    if n is not None:
                        yield Setting(n, accuracy, gained, drop, limit, candidates=candidates)
    for slices in (5, 20):
        each = drop_samples(0.003, 0.003, 0.03, ALPHA, POWER ** (1 / slices))
        if each is not None:
            yield Setting(each * slices, 0.9, 0.003, 0.0, None, 0.03, slices=slices)


def missed(share: float, target: float, releases: int, *, at_most: bool) -> bool:
    """Whether a share misses a target by more than drawing `releases` explains."""
    count = round(share * releases)
    if at_most:
        return bool(binom.sf(count - 1, releases, target) < LUCK)
    return bool(binom.cdf(count, releases, target) < LUCK)


def main() -> None:
    """Simulate, print two tables; with --check hold them against alpha and the power promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--releases", type=int, default=RELEASES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin, problems = time.perf_counter(), 0
    columns = "limit, points | judged | true drop, points | samples | accuracy % | gained % |"
    for title, settings, target, at_most in (
        ("false passes", bad_settings(), ALPHA, True),
        ("passes at the recommended size", good_settings(), POWER, False),
    ):
        print(f"\n| {columns} candidates | {title} % | false fails % | |")
        print("|--:|---|--:|--:|--:|--:|--:|--:|--:|---|")
        for setting in settings:
            found = simulate(setting, options.releases, options.seed)
            is_bad = missed(found.passed, target, options.releases, at_most=at_most)
            problems += is_bad
            failed = f"{100 * found.failed:.2f}" if np.isfinite(found.failed) else "-"
            mark = "missed" if is_bad else "ok"
            print(f"{setting} {100 * found.passed:.2f} | {failed} | {mark} |", flush=True)
    print(f"\n{options.releases:,} releases each, {time.perf_counter() - begin:.0f} s")
    print(f"{problems} targets missed")
    sys.exit(1 if options.check and problems else 0)


if __name__ == "__main__":
    main()
