"""The simulation in small: bad releases seldom pass, good ones do, and a blind gate is caught."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gate_simulation
from benchmarks.gate_simulation import ALPHA, Setting, missed, simulate
from calib.gate.sample_size import POWER, drop_samples

RELEASES = 1000


@pytest.fixture(autouse=True)
def few_through_the_gate(monkeypatch):
    monkeypatch.setattr(gate_simulation, "_THROUGH_THE_GATE", 4)


BAD = Setting(2000, accuracy=0.9, gained=0.005, drop=0.01, limit=0.01)


@pytest.mark.parametrize(
    "setting",
    [
        BAD,
        replace(BAD, gained=0.0, drop=2.71 / 2000, limit=2.71 / 2000),
        replace(BAD, candidates=5),
        replace(BAD, drop=0.06, limit=None, slice_limit=0.06, slices=10),
        replace(BAD, drop=0.06, limit=None, slice_limit=0.06, slices=10, candidates=3),
    ],
    ids=["single", "none gained", "best of 5", "slice of 10", "slice of 10, best of 3"],
)
def test_a_release_that_loses_the_limit_passes_with_chance_alpha_at_most(setting):
    found = simulate(setting, RELEASES)
    assert not missed(found.passed, ALPHA, RELEASES, at_most=True)


def test_a_release_that_loses_nothing_passes_at_the_recommended_size():
    samples = drop_samples(0.005, 0.005, 0.01, ALPHA)
    found = simulate(replace(BAD, samples=samples, drop=0.0), RELEASES)
    assert not missed(found.passed, POWER, RELEASES, at_most=False)
    assert found.passed < 0.9
    few = simulate(replace(BAD, samples=samples // 2, drop=0.0), RELEASES)
    assert missed(few.passed, POWER, RELEASES, at_most=False)


def test_a_gate_that_looks_at_the_value_alone_is_caught(monkeypatch):
    def value(samples, lost, gained, alpha, corrected):
        share = (lost - gained) / samples
        return share, share

    monkeypatch.setattr(gate_simulation, "tango_bounds", value)
    monkeypatch.setattr(gate_simulation, "_THROUGH_THE_GATE", 0)
    assert missed(simulate(BAD, RELEASES).passed, ALPHA, RELEASES, at_most=True)


def test_uncorrected_candidates_are_caught(monkeypatch):
    monkeypatch.setattr(Setting, "alpha", ALPHA)
    monkeypatch.setattr(gate_simulation, "_THROUGH_THE_GATE", 0)
    found = simulate(replace(BAD, candidates=5), RELEASES)
    assert missed(found.passed, ALPHA, RELEASES, at_most=True)


def test_a_release_that_the_gate_judges_otherwise_is_an_error(monkeypatch):
    monkeypatch.setattr(
        gate_simulation, "_verdicts", lambda _, lost, __: np.ones(len(lost), dtype=bool)
    )
    with pytest.raises(AssertionError):
        simulate(BAD, 20)
