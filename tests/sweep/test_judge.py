"""Objectives, the number of choices, the front and the trial to take, of runs made by hand."""

import math

import numpy as np
import pytest
import records
import yaml
from small import config

from calib.gate.limits import LimitsSpec
from calib.results import MetricScore, Precision, TaskKind, Verdict
from calib.sweep.judge import ACCURACY, COST, basis, choices, figures_of, front
from calib.sweep.record import Trial, sweep_record
from calib.sweep.space import read_base

SHAS = [str(n) * 64 for n in range(1, 9)]


def trial_run(sha, p50=2.0, **changes):
    values = {"model_sha256": sha, "latency": (records.latency(p50),), "emulated": False}
    return records.run(records.fp32(), records.candidate(**{**values, **changes}))


def test_the_front_is_what_each_pair_says():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        for _ in range(30):
            points = dict(enumerate(map(tuple, rng.integers(0, 6, (count, 2)).astype(float)), 1))
            expected = {
                n
                for n, (a, c) in points.items()
                if not any(x <= a and y <= c and (x < a or y < c) for x, y in points.values())
            }
            assert front(points) == expected


def test_models_are_counted_once_and_a_run_that_does_not_choose_is_one_choice():
    def two(first, second):
        pair = [
            records.candidate(f"int8-{name}", model_sha256=sha)
            for name, sha in (("minmax", first), ("mse", second))
        ]
        return records.run(records.fp32(), records.fp16(), *pair)

    results = [two(SHAS[0], SHAS[1]), two(SHAS[1], SHAS[2]), two(SHAS[0], SHAS[1])]
    assert choices(results, LimitsSpec()) == 3
    assert choices(results, LimitsSpec(judge="all")) == 2
    assert choices([], LimitsSpec()) == 1
    # Whatever the run itself divides by, each is judged with alpha / count.
    for judge in ("best", "all"):
        limits = LimitsSpec(judge=judge, accuracy_drop_points_max=50.0)
        verdict = figures_of(results[0], limits, 5).verdict
        rules = [r for c in verdict.candidates for r in c.rules if "accuracy" in r.rule]
        assert [rule.alpha for rule in rules] == pytest.approx([0.05 / 5] * 3)


def test_the_cost_is_the_ratio_of_medians_or_the_size_where_a_precision_is_emulated():
    timed = figures_of(trial_run(SHAS[0], p50=2.5), LimitsSpec(), 1)
    assert timed.cost("latency") == pytest.approx(2.5 / 4.0)
    assert timed.cost("size") == 0.4
    emulated = figures_of(trial_run(SHAS[1], rest=Precision.FP16, emulated=True), LimitsSpec(), 1)
    assert emulated.cost("latency") is None
    assert basis([timed], COST) == "latency"
    assert basis([timed, emulated], COST) == "size"


def test_without_a_figure_of_the_task_the_noise_of_the_worst_output_is_compared():
    outputs = (records.error(sqnr_db=None), records.error(sqnr_db=31.5))
    bare = figures_of(trial_run(SHAS[0], score=None, flips=None, outputs=outputs), LimitsSpec(), 1)
    assert basis([bare], ACCURACY) == "noise"
    assert bare.accuracy("noise") == -31.5
    known = figures_of(trial_run(SHAS[1]), LimitsSpec(), 1)
    assert basis([known], ACCURACY) == "bound"
    assert basis([known, bare], ACCURACY) == "noise"


def metric(quantiles, **changes):
    values = {
        "name": "mean_abs_error",
        "title": "mean absolute error",
        "unit": "",
        "higher_is_better": False,
        "value": 1.2,
        "reference": 1.0,
        "resampled_losses": quantiles,
        "resamples": 4999,
    }
    return MetricScore(**{**values, **changes})


@pytest.mark.parametrize("count", [1, 4, 25, 100])
def test_a_metric_of_another_kind_is_bounded_by_its_resamples_as_far_as_they_go(count):
    from calib.results.metrics import QUANTILES

    score = records.score(
        kind=TaskKind.REGRESSION,
        accuracy_pct=None,
        mean_cosine=None,
        metrics=(metric(tuple(10 * q for q in QUANTILES)),),
    )
    found = figures_of(trial_run(SHAS[0], score=score), LimitsSpec(), count)
    assert found.loss.value == pytest.approx(0.2)
    if count > 50:  # 0.05 / 50 is the last quantile that is kept
        assert found.loss.bound is None
        assert basis([found], ACCURACY) == "loss"
    else:
        assert found.loss.bound == pytest.approx(10 * (1 - 0.05 / count))


def base(tmp_path, **limits):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**config(), "limits": limits}), encoding="utf-8")
    return read_base(file, [])


def judged(tmp_path, *results, sampler="grid", **limits):
    points = [{"calibration.calibrators": f"[{{kind: c{n}}}]"} for n, _ in enumerate(results)]
    trials = [Trial(point, result, 1.0) for point, result in zip(points, results, strict=True)]
    return sweep_record(base(tmp_path, **limits), sampler, "2026-01-01T00:00:00+00:00", trials)


def scored(lost, gained=0):
    flips = records.candidate().flips.model_copy(update={"worsened": lost, "improved": gained})
    return {"flips": flips, "score": records.score(samples=200, reference_right=180)}


def test_the_fastest_that_passes_is_taken_and_the_most_accurate_of_equals(tmp_path):
    results = [
        trial_run(SHAS[0], p50=1.0, **scored(60)),  # the fastest, and too bad
        trial_run(SHAS[1], p50=2.0, **scored(4)),
        trial_run(SHAS[2], p50=2.0, **scored(2)),  # as fast, and better
        trial_run(SHAS[3], p50=3.0, **scored(0)),
        trial_run(SHAS[2], p50=1.5, **scored(2)),  # the third again, by luck faster
    ]
    found = judged(tmp_path, *results, accuracy_drop_points_max=10.0)
    assert found.winner == 3
    assert [t.number for t in found.trials if t.on_front] == [1, 3, 4]
    assert found.trial(5).same_model_as == 3
    assert found.choices == 4
    assert found.limit == 10.0
    assert found.next_step.endswith("--set 'calibration.calibrators=[{kind: c2}]'")


def test_without_limits_nothing_passes_and_what_to_do_is_said(tmp_path):
    found = judged(tmp_path, trial_run(SHAS[0], **scored(0)))
    assert (found.winner, found.verdict) == (None, Verdict.NO_EVIDENCE)
    assert "Set limits" in found.next_step
    failing = judged(tmp_path, trial_run(SHAS[0], **scored(60)), accuracy_drop_points_max=1.0)
    assert failing.verdict is Verdict.FAIL
    assert "Widen the space" in failing.next_step


def test_a_sampler_that_learns_is_told_to_escape_the_correction(tmp_path):
    results = [trial_run(sha, **scored(0)) for sha in SHAS[:2]]
    assert any("tpe" in note for note in judged(tmp_path, *results, sampler="tpe").notes)
    assert not any("Bonferroni" in note for note in judged(tmp_path, *results).notes)


def test_a_loss_that_is_no_number_is_on_no_front(tmp_path):
    broken = records.score(accuracy_pct=None, mean_cosine=None, metrics=(metric((), value=None),))
    noise = (records.error(sqnr_db=-math.inf),)
    results = [trial_run(SHAS[0], score=broken, outputs=noise), trial_run(SHAS[1], **scored(0))]
    found = judged(tmp_path, *results, accuracy_drop_points_max=10.0)
    assert [t.number for t in found.trials if t.on_front] == [2]
