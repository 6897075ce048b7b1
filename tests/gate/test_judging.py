"""Each rule passes, fails, and has nothing to judge; a run is never better than its evidence."""

import math

import pytest
import records
from conftest import ROOT

from calib.errors import ConfigError
from calib.gate.judging import evaluate, exit_code
from calib.gate.limits import LimitsSpec
from calib.gate.rules import RULES
from calib.results import FlipSummary, TaskKind, TaskScore, Verdict

NO_FLIPS = FlipSummary(samples=0, total=0, worsened=0, improved=0, sideways=0, unlabelled=0)
NO_SCORE = {"score": None}

# rule: (found on records.candidate(), a limit it keeps, a limit it breaks, what takes its evidence)
CASES = {
    "samples_min": (200, 200, 201, {"flips": NO_FLIPS}),
    "accuracy_drop_points_max": (2.0, 2.0, 1.99, NO_SCORE),
    "accuracy_drop_relative_pct_max": (100 * 2 / 90, 2.3, 2.2, NO_SCORE),
    "macro_recall_drop_points_max": (3.0, 3.0, 2.9, NO_SCORE),
    "worst_class_drop_points_max": (4.0, 4.0, 3.9, NO_SCORE),
    "flips_pct_max": (5.0, 5.0, 4.9, {"flips": NO_FLIPS}),
    "worsened_pct_max": (3.0, 3.0, 2.9, NO_SCORE),
    "mean_abs_error_increase_pct_max": (10.0, 10.1, 9.9, NO_SCORE),
    "embedding_cosine_mean_min": (0.98, 0.98, 0.981, NO_SCORE),
    "embedding_cosine_worst_min": (0.7, 0.7, 0.71, NO_SCORE),
    "output_sqnr_db_min": (20.0, 20.0, 20.1, {"outputs": ()}),
    "output_cosine_min": (0.99, 0.99, 0.991, {"outputs": ()}),
    "layer_sqnr_db_min": (10.0, 10.0, 10.1, {"layers": ()}),
    "speedup_vs_fp32_min": (2.0, 2.0, 2.1, {"latency": ()}),
    "speedup_vs_fp16_min": (1.5, 1.5, 1.6, {"latency": ()}),
    "latency_p50_ms_max": (2.0, 2.0, 1.9, {"latency": ()}),
    "size_ratio_vs_fp32_max": (0.4, 0.4, 0.39, {"size_bytes": 0}),
    "int8_macs_pct_min": (50.0, 50.0, 50.1, {"engines": ()}),
}


def judged(limits, **changes):
    run = records.run(records.fp32(), records.fp16(), records.candidate(**changes))
    verdict = evaluate(run, LimitsSpec(**limits))
    return next(c for c in verdict.candidates if c.candidate == "int8-minmax")


def test_every_rule_has_a_case_a_limit_and_a_place_in_the_documents():
    names = [rule.name for rule in RULES]
    assert sorted(names) == sorted(CASES)
    settings = {"judge", "batch_size", "threads", "worst_class_min_samples"}
    assert set(LimitsSpec.model_fields) == {*names, *settings}
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in names)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_passes_at_its_limit_fails_beyond_it_and_needs_evidence(name):
    found, kept, broken, without = CASES[name]
    good = judged({name: kept}).rules[0]
    assert good.found == pytest.approx(found)
    assert good.verdict is Verdict.PASS
    assert good.samples > 0
    bad = judged({name: broken})
    assert bad.verdict is bad.rules[0].verdict is Verdict.FAIL
    blind = judged({name: kept}, **without)
    assert blind.verdict is blind.rules[0].verdict is Verdict.NO_EVIDENCE
    assert blind.rules[0].found is None
    assert blind.rules[0].details


def test_a_limit_in_points_counts_samples_exactly():
    # 0.7 points of 1,000 samples are 7 samples, though 90.0 - 89.3 is not 0.7 in floating point.
    score = records.score(samples=1000, accuracy_pct=89.3, reference_accuracy_pct=90.0)
    assert judged({"accuracy_drop_points_max": 0.7}, score=score).verdict is Verdict.PASS
    assert judged({"accuracy_drop_points_max": 0.69}, score=score).verdict is Verdict.FAIL


def test_a_class_with_few_samples_is_not_the_worst_unless_asked_for():
    assert judged({"worst_class_drop_points_max": 4}).verdict is Verdict.PASS
    strict = judged({"worst_class_drop_points_max": 4, "worst_class_min_samples": 5})
    assert strict.verdict is Verdict.FAIL
    assert "rare" in strict.rules[0].details
    none = judged({"worst_class_drop_points_max": 4, "worst_class_min_samples": 500})
    assert none.verdict is Verdict.NO_EVIDENCE


def test_a_worse_accuracy_than_fp32s_of_zero_has_no_relative_drop():
    score = records.score(reference_accuracy_pct=0.0, accuracy_pct=0.0)
    assert judged({"accuracy_drop_relative_pct_max": 5}, score=score).verdict is Verdict.NO_EVIDENCE


@pytest.mark.parametrize("name", ["output_sqnr_db_min", "output_cosine_min"])
def test_outputs_that_are_not_finite_fail_whatever_the_limit(name):
    broken = records.error(sqnr_db=-math.inf, cosine=-1.0, max_abs=math.inf)
    limit = -0.99 if name == "output_cosine_min" else -1e9
    assert judged({name: limit}, outputs=(broken,)).verdict is Verdict.FAIL


def test_nan_is_no_evidence():
    score = records.score(mean_cosine=math.nan)
    assert judged({"embedding_cosine_mean_min": -1}, score=score).verdict is Verdict.NO_EVIDENCE


def test_outputs_equal_to_fp32s_keep_every_noise_limit():
    exact = records.error(sqnr_db=None, cosine=1.0, max_abs=0.0)
    assert judged({"output_sqnr_db_min": 200}, outputs=(exact,)).verdict is Verdict.PASS


def test_speed_is_judged_at_the_batch_size_that_is_asked_for():
    found = judged({"speedup_vs_fp32_min": 1, "batch_size": 16}).rules[0]
    assert found.verdict is Verdict.NO_EVIDENCE
    assert judged({"speedup_vs_fp32_min": 1, "batch_size": 8}).verdict is Verdict.PASS


def test_speed_is_judged_on_the_threads_that_are_asked_for_and_on_the_most_otherwise():
    def swept(name, one, two):
        latency = tuple(
            records.latency(p50).model_copy(update={"threads": threads})
            for threads, p50 in ((1, one), (2, two))
        )
        return records.candidate(name, latency=latency, engines=())

    run = records.run(swept("fp32", 6.0, 4.0), swept("int8-minmax", 2.0, 4.0))
    for threads, expected in ((1, 3.0), (2, 1.0), (None, 1.0)):
        limits = LimitsSpec(speedup_vs_fp32_min=1, threads=threads)
        rule = evaluate(run, limits).candidates[0].rules[0]
        assert rule.found == pytest.approx(expected)
        assert f"at batch 8, {threads or 2} thread" in rule.details
    limits = LimitsSpec(speedup_vs_fp32_min=1, latency_p50_ms_max=9, threads=4)
    assert {r.verdict for r in evaluate(run, limits).candidates[0].rules} == {Verdict.NO_EVIDENCE}


def test_an_emulated_candidates_latency_is_no_evidence():
    assert judged({"latency_p50_ms_max": 9}).verdict is Verdict.PASS
    found = judged({"latency_p50_ms_max": 9}, emulated=True)
    assert found.verdict is Verdict.NO_EVIDENCE
    assert "emulated" in found.rules[0].details


def test_without_limits_one_is_still_told_that_int8_is_no_faster():
    slow = records.candidate(latency=(records.latency(3.5),))
    verdict = evaluate(records.run(records.fp32(), records.fp16(), slow), LimitsSpec())
    assert verdict.verdict is Verdict.NO_EVIDENCE
    assert verdict.advice.startswith("No faster than FP16")
    failed = evaluate(
        records.run(records.fp32(), records.fp16(), slow), LimitsSpec(speedup_vs_fp16_min=2)
    )
    assert (failed.verdict, failed.advice) == (Verdict.FAIL, "")


def test_a_failure_outranks_missing_evidence_which_outranks_a_pass():
    limits = {"flips_pct_max": 50, "output_sqnr_db_min": 0}
    assert judged(limits).verdict is Verdict.PASS
    assert judged(limits, outputs=()).verdict is Verdict.NO_EVIDENCE
    assert judged({**limits, "flips_pct_max": 1}, outputs=()).verdict is Verdict.FAIL


def test_asking_for_nothing_is_not_a_pass():
    verdict = evaluate(records.run(), LimitsSpec())
    assert verdict.verdict is Verdict.NO_EVIDENCE
    assert "asks for nothing" in verdict.reason


def two(limits, **changes):
    worse = TaskScore(
        kind=TaskKind.CLASSIFICATION, samples=200, accuracy_pct=80.0, reference_accuracy_pct=90.0
    )
    run = records.run(
        records.fp32(),
        records.fp16(),
        records.candidate("int8-entropy", score=worse, **changes),
        records.candidate(),
    )
    return evaluate(run, LimitsSpec(**limits))


def test_the_best_candidate_that_passes_is_chosen():
    verdict = two({"accuracy_drop_points_max": 5})
    assert (verdict.verdict, verdict.chosen) == (Verdict.PASS, "int8-minmax")
    assert "88.00 %" in verdict.reason
    assert "-2.00 points" in verdict.reason


def test_a_candidate_that_passes_is_chosen_before_a_better_one_that_fails():
    small = two({"size_ratio_vs_fp32_max": 0.3}, size_bytes=100)
    assert (small.verdict, small.chosen) == (Verdict.PASS, "int8-entropy")


def test_all_speaks_of_the_worst_candidate():
    verdict = two({"accuracy_drop_points_max": 5, "judge": "all"})
    assert (verdict.verdict, verdict.chosen) == (Verdict.FAIL, "int8-entropy")


def test_a_named_candidate_is_judged_and_an_unknown_one_refused():
    verdict = two({"accuracy_drop_points_max": 5, "judge": "fp16"})
    assert (verdict.verdict, verdict.chosen) == (Verdict.PASS, "fp16")
    with pytest.raises(ConfigError, match=r"limits\.judge.*int8-minmax"):
        two({"judge": "int8-mse"})


def test_without_an_int8_candidate_there_is_no_evidence():
    verdict = evaluate(records.run(records.fp32(), records.fp16()), LimitsSpec(flips_pct_max=99))
    assert verdict.verdict is Verdict.NO_EVIDENCE


def test_an_engine_that_was_built_and_not_run_is_no_evidence_whatever_was_asked():
    idle = records.engine(ran_here=False, why_not_run="no NVIDIA driver")
    found = judged({"flips_pct_max": 50}, engines=(records.engine(), idle))
    assert found.verdict is Verdict.NO_EVIDENCE
    assert [r.verdict for r in found.rules] == [Verdict.PASS, Verdict.NO_EVIDENCE]
    assert "no NVIDIA driver" in found.rules[1].details
    broken = judged({"flips_pct_max": 1}, engines=(idle,))
    assert broken.verdict is Verdict.FAIL


def test_the_share_in_int8_is_that_of_the_worst_target_and_needs_all_of_them():
    good, unknown = records.engine(int8_macs_pct=99.0), records.engine(int8_macs_pct=None)
    limit = {"int8_macs_pct_min": 60}
    assert judged(limit, engines=(good,)).verdict is Verdict.PASS
    assert judged(limit, engines=(good, records.engine())).verdict is Verdict.FAIL
    assert judged(limit, engines=(good, unknown)).verdict is Verdict.NO_EVIDENCE


def test_onnxruntimes_share_in_int8_is_evidence_where_the_layout_is_for_it():
    def verdict(layout, limit, **changes):
        candidate = records.candidate(engines=(), ran=records.ran(**changes))
        config = {"quantization": {"layout": layout}}
        run = records.run(records.fp32(), candidate, config=config)
        return evaluate(run, LimitsSpec(int8_macs_pct_min=limit)).candidates[0].rules[0]

    assert verdict("native", 25).verdict is Verdict.PASS
    assert verdict("native", 26).verdict is Verdict.FAIL
    assert "1 nodes asked for INT8" in verdict("native", 26).details
    assert verdict("tensorrt", 25).verdict is Verdict.NO_EVIDENCE
    unknown = verdict("native", 25, int8_macs_pct=None, problem="it holds compiled nodes")
    assert unknown.verdict is Verdict.NO_EVIDENCE
    assert "compiled nodes" in unknown.details


def test_exit_codes():
    assert [exit_code(v) for v in Verdict] == [0, 1, 3]
