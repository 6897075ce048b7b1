"""Each rule passes, fails, and has nothing to judge; a run is never better than its evidence."""

import math

import pytest
import records
from small import ROOT

from calib.errors import ConfigError
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.rules import RULES
from calib.gate.sample_size import drop_samples
from calib.gate.task_rules import TASK_RULES
from calib.gate.wording import rounded
from calib.results import FlipSummary, PairedScore, TaskKind, TaskScore, Verdict

NO_FLIPS = FlipSummary(samples=0, total=0, worsened=0, improved=0, sideways=0, unlabelled=0)
NO_SCORE = {"score": None}

WORSE = {
    "score": records.score(
        accuracy_pct=78.0, classes=(records.class_score("rare", 100, 90.0, 20, 1),)
    ),
    "flips": FlipSummary(samples=200, total=30, worsened=26, improved=2, sideways=2, unlabelled=0),
}
NO_SAMPLES = {"score": records.score(sample_errors=(), sample_cosines=())}

# A limit that is no statistic of samples:
# (found on records.candidate(), a limit it keeps, a limit it breaks, what takes its evidence)
POINTS = {
    "samples_min": (200, 200, 201, {"flips": NO_FLIPS}),
    "embedding_cosine_worst_min": (0.7, 0.7, 0.71, NO_SCORE),
    "output_sqnr_db_min": (20.0, 20.0, 20.1, {"outputs": ()}),
    "output_cosine_min": (0.99, 0.99, 0.991, {"outputs": ()}),
    "layer_sqnr_db_min": (10.0, 10.0, 10.1, {"layers": ()}),
    "size_ratio_vs_fp32_max": (0.4, 0.4, 0.39, {"size_bytes": 0}),
    "int8_macs_pct_min": (50.0, 50.0, 50.1, {"engines": ()}),
    "saturation_pct_max": (0.25, 0.25, 0.24, {"calibrator": None}),
}
# One that is: (found, a limit for sure kept, one that cannot be told, one for sure broken,
# what makes that so, what takes its evidence)
SAMPLED = {
    "accuracy_drop_points_max": (2.0, 5.2, 2.0, 3.0, WORSE, NO_SCORE),
    "accuracy_drop_relative_pct_max": (100 * 2 / 90, 5.7, 2.3, 3.3, WORSE, NO_SCORE),
    "macro_recall_drop_points_max": (104 / 3, 37, 35, 10, {}, NO_SCORE),
    "worst_class_drop_points_max": (5.0, 10.6, 5.0, 10.0, WORSE, NO_SCORE),
    "worst_slice_drop_points_max": (10 / 3, 8.7, 3.0, 0.0, None, {"slices": ()}),
    "worst_slice_loss_max": (3.0, 4.0, 3.0, 1.0, {}, {"slices": ()}),
    "flips_pct_max": (5.0, 8.4, 5.0, 2.7, {}, {"flips": NO_FLIPS}),
    "worsened_pct_max": (3.0, 5.9, 3.0, 1.3, {}, NO_SCORE),
    "confident_flips_pct_max": (2.0, 5.2, 2.0, 0.5, {}, {"moved": None}),
    "margin_loss_p99_max": (0.98901, 0.996, 0.989, 0.97, {}, {"moved": None}),
    "mean_abs_error_increase_pct_max": (10.0, 10.3, 10.1, 9.6, {}, NO_SAMPLES),
    "embedding_cosine_mean_min": (0.98, 0.979, 0.98, 0.981, {}, NO_SAMPLES),
    "speedup_vs_fp32_min": (2.0, 1.99, 2.0, 2.01, {}, {"latency": ()}),
    "speedup_vs_fp16_min": (1.5, 1.49, 1.5, 1.51, {}, {"latency": ()}),
    "latency_p50_ms_max": (2.0, 2.01, 2.0, 1.99, {}, {"latency": ()}),
}


def judged(limits, **changes):
    run = records.run(records.fp32(), records.fp16(), records.candidate(**changes))
    verdict = evaluate(run, LimitsSpec(**limits))
    return next(c for c in verdict.candidates if c.candidate == "int8-minmax")


def test_every_rule_has_a_case_a_limit_and_a_place_in_the_documents():
    names = [rule.name for rule in RULES]
    of_tasks = [rule.name for rule in TASK_RULES]  # tests/gate/test_task_rules.py has those
    assert sorted(names) == sorted([*POINTS, *SAMPLED, *of_tasks])
    assert {r.name for r in RULES if r.sampled and r not in TASK_RULES} == set(SAMPLED)
    settings = {
        "alpha",
        "batch_size",
        "confident_pct",
        "heads",
        "inconclusive",
        "judge",
        "threads",
        "worst_class_min_samples",
        "worst_slice_min_samples",
    }
    assert set(LimitsSpec.model_fields) == {*names, *settings}
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in names)


@pytest.mark.parametrize("name", POINTS)
def test_a_rule_passes_at_its_limit_fails_beyond_it_and_needs_evidence(name):
    found, kept, broken, without = POINTS[name]
    good = judged({name: kept}).rules[0]
    assert good.found == pytest.approx(found)
    assert good.verdict is Verdict.PASS
    assert good.samples > 0
    assert good.low is good.high is good.alpha is None
    bad = judged({name: broken})
    assert bad.verdict is bad.rules[0].verdict is Verdict.FAIL
    assert_blind(name, kept, without)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_statistic_passes_and_fails_by_its_bounds_and_is_open_between_them(name):
    found, kept, between, broken, worse, without = SAMPLED[name]
    good = judged({name: kept}).rules[0]
    assert good.found == pytest.approx(found)
    assert good.verdict is Verdict.PASS
    assert good.low <= found <= good.high
    assert good.alpha == 0.05
    assert good.method
    assert not good.advice
    unsure = judged({name: between})
    assert unsure.verdict is unsure.rules[0].verdict is Verdict.INCONCLUSIVE
    assert unsure.rules[0].advice
    if worse is not None:
        bad = judged({name: broken}, **worse)
        assert bad.verdict is bad.rules[0].verdict is Verdict.FAIL
    assert_blind(name, kept, without)


def assert_blind(name, limit, without):
    blind = judged({name: limit}, **without)
    assert blind.verdict is blind.rules[0].verdict is Verdict.NO_EVIDENCE
    assert blind.rules[0].found is None
    assert blind.rules[0].details


def test_a_drop_that_is_found_at_its_limit_is_no_pass():
    # Of two such releases one is worse than the limit.
    found = judged({"accuracy_drop_points_max": 2.0})
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.rules[0].samples_needed is None
    assert "no number of samples" in found.rules[0].advice


def test_what_cannot_be_told_says_how_many_samples_would_tell_it():
    rule = judged({"accuracy_drop_points_max": 4}).rules[0]
    lost, gained = 6.5 / 201, 2.5 / 201
    assert rule.samples_needed == drop_samples(lost, gained, 0.04, 0.05)
    run = evaluate(records.run(), LimitsSpec(accuracy_drop_points_max=4, flips_pct_max=4.5))
    more = max(r.samples_needed or 0 for r in run.candidates[1].rules) - 200
    assert f"add about {rounded(more):,} validation samples" in run.advice
    assert run.advice.count("validation samples") == 1


def test_a_stricter_alpha_widens_the_bounds():
    usual, strict = (
        judged({"accuracy_drop_points_max": 5.2, "alpha": a}).rules[0] for a in (0.05, 0.01)
    )
    assert usual.verdict is Verdict.PASS
    assert strict.verdict is Verdict.INCONCLUSIVE
    assert strict.low < usual.low < usual.high < strict.high


def test_small_classes_are_pooled_and_never_left_out():
    limit = {"worst_class_drop_points_max": 4}
    pooled = judged(limit).rules[0]
    assert "rare, dog (2 pooled): 5 worsened" in pooled.details
    alone = judged({**limit, "worst_class_min_samples": 5}).rules[0]
    assert "class rare: 5 worsened" in alone.details
    # All five lost are no proof: by chance so many of five would be gained another time.
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert alone.high > 99
    # All classes together are fewer than asked for: judged all the same.
    one = judged({**limit, "worst_class_min_samples": 500}).rules[0]
    assert one.samples == 200
    assert one.verdict is Verdict.INCONCLUSIVE


def test_a_run_of_a_version_without_paired_counts_is_no_evidence():
    old = records.score().classes[0].model_copy(update={"worsened": None, "improved": None})
    score = records.score(classes=(old,))
    for name in ("worst_class_drop_points_max", "macro_recall_drop_points_max"):
        found = judged({name: 50}, score=score)
        assert found.verdict is Verdict.NO_EVIDENCE
        assert "run it again" in found.rules[0].details


def test_an_error_without_bound_fails():
    score = records.score(mean_abs_error=math.inf, sample_errors=((math.inf, 1.0),) * 200)
    assert judged({"mean_abs_error_increase_pct_max": 50}, score=score).verdict is Verdict.FAIL


def test_too_few_timed_runs_bear_no_verdict_on_speed():
    few = (records.latency(2.0, runs=4),)
    found = judged({"speedup_vs_fp32_min": 1.0}, latency=few).rules[0]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "4 timed runs are too few" in found.advice


def test_flips_and_both_intervals_stand_beside_fp32_and_other_rivals():
    fp16 = PairedScore(rival="fp16", samples=200, right=170, worsened=9, improved=1)
    own, other = judged({"flips_pct_max": 50}, paired=(fp16,)).paired
    assert (own.rival, own.worsened, own.improved) == ("fp32", 6, 2)
    assert own.drop_points == 2
    assert own.low < own.newcombe_low < 2 < own.newcombe_high < own.high
    assert own.mcnemar_p == pytest.approx(2 * (1 + 8 + 28) / 2**8)
    assert (other.rival, other.drop_points) == ("fp16", 4)
    assert other.mcnemar_p == pytest.approx(2 * (1 + 10) / 2**10)


def test_a_worse_accuracy_than_fp32s_of_zero_has_no_relative_drop():
    score = records.score(reference_accuracy_pct=0.0, accuracy_pct=0.0)
    flips = FlipSummary(samples=200, total=0, worsened=0, improved=0, sideways=0, unlabelled=0)
    found = judged({"accuracy_drop_relative_pct_max": 5}, score=score, flips=flips)
    assert found.verdict is Verdict.NO_EVIDENCE


@pytest.mark.parametrize("name", ["output_sqnr_db_min", "output_cosine_min"])
def test_outputs_that_are_not_finite_fail_whatever_the_limit(name):
    broken = records.error(sqnr_db=-math.inf, cosine=-1.0, max_abs=math.inf)
    limit = -0.99 if name == "output_cosine_min" else -1e9
    assert judged({name: limit}, outputs=(broken,)).verdict is Verdict.FAIL


def test_nan_is_no_evidence():
    score = records.score(mean_cosine=math.nan, sample_cosines=(math.nan,) * 20)
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


def test_a_failure_outranks_missing_evidence_then_doubt_then_a_pass():
    limits = {"flips_pct_max": 50, "output_sqnr_db_min": 0}
    assert judged(limits).verdict is Verdict.PASS
    assert judged({**limits, "flips_pct_max": 5}).verdict is Verdict.INCONCLUSIVE
    assert judged({**limits, "flips_pct_max": 5}, outputs=()).verdict is Verdict.NO_EVIDENCE
    assert judged({**limits, "flips_pct_max": 1}, outputs=()).verdict is Verdict.FAIL


def test_asking_for_nothing_is_not_a_pass():
    verdict = evaluate(records.run(), LimitsSpec())
    assert verdict.verdict is Verdict.NO_EVIDENCE
    assert "asks for nothing" in verdict.reason


def two(limits, **changes):
    worse = TaskScore(
        kind=TaskKind.CLASSIFICATION, samples=200, accuracy_pct=80.0, reference_accuracy_pct=90.0
    )
    flips = FlipSummary(samples=200, total=24, worsened=22, improved=2, sideways=0, unlabelled=0)
    run = records.run(
        records.fp32(),
        records.fp16(),
        records.candidate("int8-entropy", score=worse, flips=flips, **changes),
        records.candidate(),
    )
    return evaluate(run, LimitsSpec(**limits))


def test_the_best_candidate_that_passes_is_chosen():
    verdict = two({"accuracy_drop_points_max": 6})
    assert (verdict.verdict, verdict.chosen) == (Verdict.PASS, "int8-minmax")
    assert "88.00 %" in verdict.reason
    assert "-2.00 points" in verdict.reason


def test_a_candidate_that_passes_is_chosen_before_a_better_one_that_fails():
    small = two({"size_ratio_vs_fp32_max": 0.3}, size_bytes=100)
    assert (small.verdict, small.chosen) == (Verdict.PASS, "int8-entropy")


def test_all_speaks_of_the_worst_candidate():
    verdict = two({"accuracy_drop_points_max": 6, "judge": "all"})
    assert (verdict.verdict, verdict.chosen) == (Verdict.FAIL, "int8-entropy")


def test_a_named_candidate_is_judged_and_an_unknown_one_refused():
    verdict = two({"accuracy_drop_points_max": 6, "judge": "fp16"})
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
    assert {v.value: v.exit_code for v in Verdict} == {
        "PASS": 0,
        "FAIL": 1,
        "NO_EVIDENCE": 3,
        "INCONCLUSIVE": 4,
    }


def test_the_best_of_several_must_be_surer_than_a_single_one():
    limits = {"accuracy_drop_points_max": 5.3}
    alone = judged(limits)
    assert alone.verdict is Verdict.PASS
    both = two(limits)
    assert both.verdict is Verdict.INCONCLUSIVE
    assert both.alpha == 0.025
    assert "0.05 / 2" in both.selection
    # Where each must pass, or one is named beforehand, nothing is chosen by these samples.
    for judge in ("all", "int8-minmax"):
        found = two({**limits, "judge": judge})
        assert found.alpha == 0.05
        own = next(c for c in found.candidates if c.candidate == "int8-minmax")
        assert own.verdict is Verdict.PASS
        assert "0.05" in found.selection
