"""Bounds of the worst losses, against scipy; samples that FP32 is sure of."""

import math

import numpy as np
import pytest
import records
from scipy import stats

from calib.analysis.tails import Movement
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.tails import quantile_interval
from calib.results import CONFIDENT_AT, Verdict


def moved(losses):
    movement = Movement()
    for loss in losses:
        movement.add(records.sample(margin_loss=float(loss)))
    return movement.summary()


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize("count", [600, 2000, 7919])
def test_the_bounds_of_the_99th_percentile_are_scipys(count, alpha):
    losses = np.random.default_rng(count).gumbel(size=count)
    found = quantile_interval(moved(losses), alpha)
    expected = stats.quantile_test(losses, p=0.99).confidence_interval(1 - 2 * alpha)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_few_samples_have_no_upper_bound_and_the_number_that_has_one_is_told():
    summary = moved(np.linspace(0, 1, 200))
    assert quantile_interval(summary, 0.05).high == math.inf
    run = records.run(records.fp32(), records.candidate(moved=summary))
    rule = evaluate(run, LimitsSpec(margin_loss_p99_max=2.0)).candidates[0].rules[0]
    assert rule.verdict is Verdict.INCONCLUSIVE
    # 0.99^299 is the first power below 0.05.
    assert rule.samples_needed == 299
    assert 0.99**299 <= 0.05 < 0.99**298


def test_an_output_that_is_not_finite_breaks_the_limit_where_there_are_enough():
    losses = np.concatenate([np.zeros(900), np.full(100, np.inf)])
    run = records.run(records.fp32(), records.candidate(moved=moved(losses)))
    rule = evaluate(run, LimitsSpec(margin_loss_p99_max=2.0)).candidates[0].rules[0]
    assert rule.verdict is Verdict.FAIL


def test_every_probability_of_the_config_is_counted_and_one_without_samples_is_no_evidence():
    values = LimitsSpec.model_json_schema()["properties"]["confident_pct"]["enum"]
    assert [v / 100 for v in values] == list(CONFIDENT_AT)
    run = records.run(records.fp32(), records.candidate())
    limits = LimitsSpec(confident_flips_pct_max=50, confident_pct=99)
    rule = evaluate(run, limits).candidates[0].rules[0]
    assert rule.verdict is Verdict.NO_EVIDENCE
    assert "99 %" in rule.details
