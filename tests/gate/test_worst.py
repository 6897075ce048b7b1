"""The worst slice: none is left out, a bad one does not pass, good ones are not called bad."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from calib.gate.statistics import PairedCounts, tango_interval
from calib.gate.worst import Slice, pooled, samples_to_decide, worst_slice
from calib.results import Verdict


def slices(*counts):
    return [Slice("class", f"c{i}", PairedCounts(*c)) for i, c in enumerate(counts)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 50))
def test_pooling_keeps_every_sample_and_leaves_no_slice_small_but_a_whole_family(sizes, least):
    given_slices = slices(*[(n, n // 3, n // 5, n // 4) for n in sizes])
    found = pooled(given_slices, least)
    for part in ("samples", "lost", "gained", "right"):
        sums = [sum(getattr(s.counts, part) for s in group) for group in (given_slices, found)]
        assert sums[0] == sums[1]
    assert len(found) == 1 or all(s.counts.samples >= least for s in found)
    large = [s for s in given_slices if s.counts.samples >= least]
    assert len([s for s in found if s in given_slices]) >= len(large) - 1


def test_all_slices_within_the_limit_pass_and_one_in_doubt_does_not():
    good, doubtful = (500, 2, 1), (40, 1, 0)
    limit = 0.03
    assert tango_interval(PairedCounts(*good), 0.05, corrected=True).high < limit
    assert worst_slice(slices(good, good), limit, 0.05).verdict is Verdict.PASS
    found = worst_slice(slices(good, doubtful, good), limit, 0.05)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.slice.name == "c1"
    assert found.open == ("class c1",)
    assert found.interval == tango_interval(PairedCounts(*doubtful), 0.05, corrected=True)


def test_a_slice_beyond_the_limit_fails_among_few_and_needs_more_among_many():
    bad = (100, 12, 1)
    assert worst_slice(slices(bad), 0.05, 0.05).verdict is Verdict.FAIL
    assert worst_slice(slices(bad), 0.05, 0.05).failed == ("class c0",)
    many = worst_slice(slices(bad, *[(100, 1, 1)] * 30), 0.05, 0.05)
    assert many.verdict is Verdict.INCONCLUSIVE
    assert many.slice.name == "c0"
    clear = worst_slice(slices((100, 30, 1), *[(100, 1, 1)] * 30), 0.05, 0.05)
    assert (clear.verdict, clear.slice.name) == (Verdict.FAIL, "c0")


@pytest.mark.parametrize("drops", [(0.05,) * 8, (0.05, *(0.0,) * 7)])
def test_slices_at_the_limit_pass_and_fail_with_chance_alpha_at_most(drops):
    rng = np.random.default_rng(0)
    passed = failed = 0
    for _ in range(150):
        drawn = [rng.multinomial(150, [d + 0.01, 0.01, 0.98 - d]) for d in drops]
        found = worst_slice(slices(*[(150, int(b), int(c)) for b, c, _ in drawn]), 0.05, 0.05)
        passed += found.verdict is Verdict.PASS
        failed += found.verdict is Verdict.FAIL
    assert passed <= binom.ppf(0.999, 150, 0.05)
    assert failed <= binom.ppf(0.999, 150, 0.05)


def test_the_samples_to_decide_do_not_take_nothing_lost_for_never():
    found = samples_to_decide(PairedCounts(30, 0, 0), 0.05, 0.05)
    assert 60 < found < 400
    many = samples_to_decide(PairedCounts(3000, 0, 0), 0.05, 0.05)
    assert many < found
