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
