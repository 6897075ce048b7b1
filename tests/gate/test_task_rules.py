import numpy as np
import pytest
import records

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.task_limits import METRICS, TaskLimits
from calib.results import ChannelErrors, ClassMetric, MetricScore, TaskKind, TaskScore, Verdict
from calib.results.metrics import COARSE, QUANTILES


def metric(name, value, reference, spread, *, higher=True):
    loss = reference - value if higher else value - reference
    return MetricScore(
        name=name,
        title=name,
        unit="%",
        higher_is_better=higher,
        value=value,
        reference=reference,
        resampled_losses=tuple(loss + spread * (2 * q - 1) for q in QUANTILES),
        resamples=1000,
    )


def judged(limits, *metrics, **more):
    score = TaskScore(kind=TaskKind.DETECTION, samples=200, metrics=metrics, **more)
    run = records.run(records.candidate("fp32"), records.candidate(score=score))
    return evaluate(run, LimitsSpec(**limits))


def rule_of(verdict, name):
    (candidate,) = [c for c in verdict.candidates if c.candidate == verdict.chosen]
    return next(r for r in candidate.rules if r.rule == name)


@pytest.mark.parametrize("limit", METRICS)
@pytest.mark.parametrize(
    ("loss", "spread", "verdict"),
    [
        (-1.0, 0.1, Verdict.PASS),
        (3.0, 0.1, Verdict.FAIL),
        (0.9, 1.0, Verdict.INCONCLUSIVE),
        (1.1, 1.0, Verdict.INCONCLUSIVE),
    ],
)
def test_a_loss_is_judged_by_its_bounds_whichever_way_the_metric_points(
    limit, loss, spread, verdict
):
    name = METRICS[limit][0]
    higher = not limit.endswith("rise_points_max")
    value = 50 - loss if higher else 50 + loss
    found = rule_of(judged({limit: 1.0}, metric(name, value, 50, spread, higher=higher)), limit)
    assert found.verdict is verdict
    assert found.found == pytest.approx(loss)
    unseen = 100 * (1 - 0.05 ** (1 / 200))
    reach = max(0.9 * spread + 0.75 * unseen, unseen)
    assert (found.low, found.high) == pytest.approx((loss - reach, loss + reach))
    assert (found.samples_needed is not None) == (verdict is Verdict.INCONCLUSIVE)


def test_a_limit_of_another_kind_of_task_has_no_evidence():
    verdict = judged({"cer_rise_points_max": 1.0}, metric("map_pct", 40, 41, 0.1))
    assert verdict.verdict is Verdict.NO_EVIDENCE


def test_every_limit_has_a_rule_of_the_same_name():
    from calib.gate.task_rules import TASK_RULES

    assert {rule.name for rule in TASK_RULES} == set(TaskLimits.model_fields)


def test_without_labels_agreement_can_be_limited():
    agreement = metric("map_pct", 98.5, 100, 0.2)
    limits = {"disagreement_points_max": 3.5}
    assert judged(limits, agreement=(agreement,)).verdict is Verdict.PASS
    assert "Without labels" in judged(limits, agreement=(agreement,)).reason


def test_a_class_that_vanished_is_named_with_and_without_a_limit():
    score = {
        "by_class": (ClassMetric(name="rare", value=0.0, reference=40.0),),
        "vanished": ("rare",),
    }
    found = metric("map_pct", 40, 40, 0.1)
    passed = judged({"map_drop_points_max": 2.0}, found, **score)
    assert passed.verdict is Verdict.PASS
    assert "Lost altogether: rare." in passed.reason
    failed = judged({"classes_vanished_max": 0}, found, **score)
    assert failed.verdict is Verdict.FAIL


def test_channels_that_no_longer_vary_are_named_without_a_limit():
    channels = ChannelErrors(
        axis=1,
        channels=7,
        constant=0,
        worst=4,
        worst_r2=-0.1,
        collapsed=2,
        collapsed_channels=(4, 6),
    )
    outputs = (records.error(tensor="boxes", channels=channels),)
    run = records.run(records.candidate("fp32"), records.candidate(outputs=outputs))
    verdict = evaluate(run, LimitsSpec(accuracy_drop_points_max=50))
    assert "2 of 7 channels of boxes no longer vary: 4, 6." in verdict.reason


def test_bounds_of_a_chance_that_too_few_resamples_can_tell_are_none():
    found = metric("map_pct", 40, 41, 1)
    assert found.bounds(0.0001) is None
    np.testing.assert_allclose(found.bounds(0.5), [1, 1])


def test_where_nothing_changed_the_bound_is_that_of_what_may_be_unseen():
    limit = "map_drop_points_max" if "map_drop_points_max" in METRICS else next(iter(METRICS))
    same = metric(METRICS[limit][0], 50.0, 50.0, 0.0)
    found = rule_of(judged({limit: 1.0}, same), limit)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.high == pytest.approx(100 * (1 - 0.05 ** (1 / 200)))
    assert rule_of(judged({limit: 1.5}, same), limit).verdict is Verdict.PASS


def class_metric(name, samples, loss, spread):
    return ClassMetric(
        name=name,
        value=50 - loss,
        reference=50.0,
        samples=samples,
        resampled_losses=tuple(loss + spread * (2 * q - 1) for q in COARSE),
    )


@pytest.mark.parametrize(
    ("worst", "verdict"),
    [(0.0, Verdict.PASS), (3.0, Verdict.INCONCLUSIVE), (9.0, Verdict.FAIL)],
)
def test_the_worst_class_of_kinds_that_have_figures_of_classes_is_held(worst, verdict):
    classes = (*(class_metric(f"c{k}", 900, 0.0, 0.2) for k in range(5)),)
    classes += (class_metric("bad", 900, worst, 1.5),)
    found = judged(
        {"worst_class_drop_points_max": 2.5}, metric("map_pct", 40, 40, 0.1), by_class=classes
    )
    rule = rule_of(found, "worst_class_drop_points_max")
    assert rule.verdict is verdict
    assert rule.found == pytest.approx(worst)
    assert "of 6 judged" in rule.details
    if worst:
        assert rule.details.startswith("class bad: ")


def test_small_classes_are_pooled_and_none_is_left_out():
    classes = (
        class_metric("common", 400, 0.0, 0.1),
        *(class_metric(f"rare{k}", 5, 60.0, 5.0) for k in range(6)),
    )
    limits = {"worst_class_drop_points_max": 5.0, "worst_class_min_samples": 20}
    found = judged(limits, metric("map_pct", 40, 40, 0.1), by_class=classes)
    rule = rule_of(found, "worst_class_drop_points_max")
    # Of six rare ones four make 20 samples; the two left join the next larger, which is large.
    assert rule.verdict is Verdict.FAIL
    assert "pooled" in rule.details
    assert rule.samples >= 20


def test_a_class_of_a_run_that_kept_no_resamples_has_no_evidence():
    old = (ClassMetric(name="a", value=40.0, reference=50.0),)
    found = judged({"worst_class_drop_points_max": 2.0}, by_class=old)
    assert "run it again" in rule_of(found, "worst_class_drop_points_max").details


def test_a_figure_of_small_objects_rests_on_the_pictures_that_have_some():
    few = metric("map_small_pct", 50.0, 50.0, 0.0).model_copy(update={"samples": 20})
    found = rule_of(judged({"map_small_drop_points_max": 2.0}, few), "map_small_drop_points_max")
    assert found.samples == 20
    assert found.high == pytest.approx(100 * (1 - 0.05 ** (1 / 20)))


def test_a_loss_without_bound_breaks_every_limit():
    lost = metric("r2", -np.inf, 0.9, 0.0).model_copy(update={"unit": "", "resampled_losses": ()})
    assert judged({"r2_drop_max": 0.5}, lost).verdict is Verdict.FAIL


def slice_figure(name, samples, loss, *, unit="%", title="mean IoU"):
    figure = metric("miou_pct", 80 - loss, 80.0, 0.0).model_copy(
        update={
            "title": title,
            "unit": unit,
            "samples": samples,
            "resampled_losses": tuple(loss + 2 * q - 1 for q in COARSE),
        }
    )
    return records.slice_score(name, samples, 0, 0).model_copy(update={"figure": figure})


def judged_slices(limits, *slices, score=None):
    own = score or TaskScore(kind=TaskKind.SEGMENTATION, samples=500)
    run = records.run(records.candidate("fp32"), records.candidate(score=own, slices=slices))
    return evaluate(run, LimitsSpec(**limits))


@pytest.mark.parametrize(
    ("worst", "verdict"), [(0.0, Verdict.PASS), (2.5, Verdict.INCONCLUSIVE), (20.0, Verdict.FAIL)]
)
def test_a_slice_of_a_kind_without_right_and_wrong_is_held_by_its_figure(worst, verdict):
    slices = [slice_figure(f"s{k}", 400, 0.0) for k in range(4)] + [slice_figure("bad", 400, worst)]
    rule = rule_of(judged_slices({"worst_slice_loss_max": 3.0}, *slices), "worst_slice_loss_max")
    assert rule.verdict is verdict
    assert rule.found == pytest.approx(worst)
    if worst:
        assert f"source bad: mean IoU {80 - worst:.2f} % against 80.00 %" in rule.details


def test_among_many_slices_none_fails_by_a_little_chance():
    # Alone the last one breaks the limit by its lower bound; of 40 one would by chance.
    def rule(others):
        slices = [slice_figure(f"s{k:02}", 5000, 0.0) for k in range(others)]
        found = judged_slices({"worst_slice_loss_max": 1.0}, *slices, slice_figure("x", 5000, 2.05))
        return rule_of(found, "worst_slice_loss_max").verdict

    assert rule(0) is Verdict.FAIL
    assert rule(40) is Verdict.INCONCLUSIVE


def test_the_bound_of_pooled_slices_is_that_of_independent_means():
    slices = (slice_figure("a", 30, 2.0, unit=""), slice_figure("b", 10, 6.0, unit=""))
    limits = {"worst_slice_loss_max": 9.0, "worst_slice_min_samples": 50}
    rule = rule_of(judged_slices(limits, *slices), "worst_slice_loss_max")
    reach = np.hypot(0.75 * 0.9, 0.25 * 0.9)
    assert rule.found == pytest.approx(0.75 * 2 + 0.25 * 6)
    assert (rule.low, rule.high) == pytest.approx((rule.found - reach, rule.found + reach))
    # A single sample has no bounds of its own: it is as unsure as those beside it.
    alone = slice_figure("c", 1, 0.0, unit="")
    one = rule_of(judged_slices(limits, slices[0], alone), "worst_slice_loss_max")
    wide = np.hypot(30 / 31 * 0.9, 1 / 31 * 0.9 * 30**0.5)
    assert one.high - one.found == pytest.approx(wide)
    assert rule_of(judged_slices(limits, alone), "worst_slice_loss_max").verdict is (
        Verdict.INCONCLUSIVE
    )


def test_each_limit_on_slices_says_which_is_meant():
    found = judged_slices({"worst_slice_drop_points_max": 3.0}, slice_figure("a", 400, 0.0))
    rule = rule_of(found, "worst_slice_drop_points_max")
    assert rule.verdict is Verdict.NO_EVIDENCE
    assert "worst_slice_loss_max" in rule.details
    counted = records.slice_score("a", 400, 1, 0)
    rule = rule_of(
        judged_slices({"worst_slice_loss_max": 3.0}, counted, score=records.score()),
        "worst_slice_loss_max",
    )
    assert rule.verdict is Verdict.NO_EVIDENCE
    assert "worst_slice_drop_points_max" in rule.details
