"""Speed-ups with intervals, from runs that took turns."""

import numpy as np
import pytest
from records import candidate, fp16, fp32, latency
from records import run as run_of

from calib.advice import speed_advice, speedup_over
from calib.analysis.speedup import ROUNDS_MIN, paired_speedup
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.results import Verdict


def rounds(seed, count=60, ratio=1.25):
    """(own, rival) in ms: noise that both share, and a little of each one's own."""
    rng = np.random.default_rng(seed)
    shared = 10 * rng.lognormal(0, 0.3, size=count)
    own, rival = (shared * factor * rng.lognormal(0, 0.02, size=count) for factor in (1, ratio))
    return tuple(own), tuple(rival)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    held = sum(
        found.low <= 1.25 <= found.high
        for seed in range(100)
        for found in [paired_speedup(*rounds(seed))]
    )
    assert held >= 88


def test_the_ratio_is_that_of_the_medians_and_unsure_where_all_is_noise():
    own, rival = rounds(0)
    found = paired_speedup(own, rival)
    assert found.ratio == pytest.approx(np.median(rival) / np.median(own))
    assert found.low < found.ratio < found.high
    rng = np.random.default_rng(1)
    same = paired_speedup(rng.normal(10, 1, 60), rng.normal(10, 1, 60))
    assert same.low < 1 < same.high
    assert not same.is_faster


def test_few_rounds_have_no_interval_and_none_no_ratio():
    own, rival = rounds(0, ROUNDS_MIN - 1)
    found = paired_speedup(own, rival)
    assert found.low is None
    assert "too few" in str(found)
    assert paired_speedup((), rival) is None


def timed(int8_ms, fp16_ms, *, emulated=False):
    run = run_of(fp32(), fp16(), candidate())
    p50 = {"fp32": 4.0, "fp16": fp16_ms}
    candidates = tuple(
        c.model_copy(
            update={
                "latency": (latency(p50.get(c.name, int8_ms)),),
                "emulated": emulated and c.name == "fp16",
            }
        )
        for c in run.candidates
    )
    return run.model_copy(update={"candidates": candidates})


def int8_of(run):
    return next(c for c in run.candidates if c.precision.value == "int8")


def test_an_int8_that_is_no_faster_than_fp16_is_told_so():
    run = timed(2.0, 1.9)
    assert speed_advice(run, int8_of(run)).startswith("No faster than FP16 here (0.95x")
    assert speed_advice(timed(1.0, 1.9), int8_of(timed(1.0, 1.9))) == ""


def test_a_layout_for_tensorrt_is_not_judged_by_onnx_runtimes_speed():
    run = timed(2.0, 1.9)
    run = run.model_copy(update={"config": {"quantization": {"layout": "tensorrt"}}})
    said = speed_advice(run, int8_of(run))
    assert "not its speed" in said
    assert "layout=native" in said


def test_an_emulated_fp16_is_left_out_and_fp32_is_the_rival():
    run = timed(2.0, 1.9, emulated=True)
    assert speedup_over(run, int8_of(run).name, "fp16") is None
    assert speed_advice(run, int8_of(run)) == ""
    slow = timed(4.4, 1.9, emulated=True)
    assert speed_advice(slow, int8_of(slow)).startswith("No faster than FP32 here")


def test_a_limit_over_an_emulated_rival_has_no_evidence():
    run = timed(2.0, 1.9, emulated=True)
    name = int8_of(run).name
    verdict = evaluate(run, LimitsSpec(speedup_vs_fp16_min=1.1, judge=name))
    assert verdict.verdict is Verdict.NO_EVIDENCE
    assert "emulated" in verdict.reason
    assert evaluate(run, LimitsSpec(speedup_vs_fp32_min=1.5, judge=name)).verdict is Verdict.PASS


def test_a_pass_carries_the_advice():
    run = timed(4.4, 1.9)
    verdict = evaluate(run, LimitsSpec(size_ratio_vs_fp32_max=100, judge=int8_of(run).name))
    assert verdict.verdict is Verdict.PASS
    assert verdict.advice.startswith("No faster than FP16")
