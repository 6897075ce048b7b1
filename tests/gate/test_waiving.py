"""What waivers make of a verdict, and why one does nothing."""

from datetime import UTC, datetime, timedelta

import records

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.waiving import verdict_of, with_waivers
from calib.results import Verdict, Waiver

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def judged(**limits):
    result = records.run(records.fp32(), records.fp16(), records.candidate())
    return result.model_copy(update={"verdict": evaluate(result, LimitsSpec(**limits))})


def waiver(**changes):
    values = {
        "limit": "samples_min",
        "model_sha256": "0" * 64,
        "owner": "Ada Lovelace",
        "reason": "a pilot with ten users",
        "expires": NOW + timedelta(days=1),
    }
    return Waiver(**{**values, **changes})


def test_each_waiver_says_why_it_does_nothing():
    result = judged(samples_min=10**6)
    given = [
        waiver(expires=NOW),
        waiver(model_sha256="1" * 64),
        waiver(limit="flips_pct_max"),
        waiver(),
    ]
    found = with_waivers(result, result.verdict, given, NOW)
    assert next(s.why_not for s in found.standings) == ""
    assert {s.why_not for s in found.standings[1:]} == {
        "it has expired",
        "it is for another model",
        "its limit needs no waiver here",
    }
    assert found.counted == (given[3],)
    assert found.verdict.verdict is Verdict.PASS


def test_all_open_limits_must_be_waived():
    result = judged(samples_min=10**6, flips_pct_max=0.001)
    found = with_waivers(result, result.verdict, [waiver()], NOW)
    assert found.limits == ("samples_min",)
    assert found.verdict == result.verdict
    both = with_waivers(result, result.verdict, [waiver(), waiver(limit="flips_pct_max")], NOW)
    assert both.verdict.verdict is Verdict.PASS
    assert both.limits == ("samples_min", "flips_pct_max")


def test_a_pass_needs_no_waiver_and_order_does_not_count():
    result = judged(samples_min=1)
    found = with_waivers(result, result.verdict, [waiver(), waiver()], NOW)
    assert (found.verdict, found.limits, len(found.standings)) == (result.verdict, (), 1)
    failed = judged(samples_min=10**6)
    two = [waiver(owner="Bob"), waiver(owner="Ada")]
    one, other = (with_waivers(failed, failed.verdict, w, NOW) for w in (two, two[::-1]))
    assert one == other


def test_another_candidate_has_its_own_verdict_and_reason():
    result = judged(samples_min=1)
    found = verdict_of(result, "fp16")
    assert (found.chosen, found.verdict) == ("fp16", Verdict.PASS)
    assert found.reason.startswith("fp16 keeps all 2 limits")
    assert verdict_of(result, None) == verdict_of(result, "int8-minmax") == result.verdict
