"""A plan's numbers are those with which the gate then decides."""

import json
import sys

import pytest

from calib import cli
from calib.gate.limits import LimitsSpec
from calib.gate.planning import Assumed, plan
from calib.gate.sample_size import drop_power, share_power

LIMITS = LimitsSpec(
    samples_min=500,
    accuracy_drop_points_max=0.5,
    accuracy_drop_relative_pct_max=1.0,
    worst_class_drop_points_max=6.0,
    worst_slice_drop_points_max=3.0,
    flips_pct_max=1.8,
    worsened_pct_max=1.0,
    speedup_vs_fp32_min=1.2,
    size_ratio_vs_fp32_max=0.75,
)


def needs(**assumed):
    found = plan(LIMITS, 0.05, Assumed(**{"changed_pct": (1.0, 4.0), **assumed}), 20)
    return {need.title.split(" ≤")[0].split(" ≥")[0]: need for need in found}


def test_every_limit_on_samples_is_planned_for_and_no_other():
    assert set(needs()) == {
        "validation samples",
        "accuracy drop",
        "relative accuracy drop",
        "worst class's recall drop",
        "worst slice's accuracy drop",
        "predictions unlike FP32's",
        "right in FP32, wrong now",
        "speed-up over FP32",
    }
    assert needs()["speed-up over FP32"].samples == ()
    assert "run it once" in needs()["speed-up over FP32"].note


def test_the_numbers_have_the_power_that_is_promised():
    found = needs(accuracy_pct=50)
    one, four = found["accuracy drop"].samples
    assert drop_power(one, 0.005, 0.005, 0.005, 0.05) >= 0.8
    assert drop_power(int(0.9 * one), 0.005, 0.005, 0.005, 0.05) < 0.8
    assert four > 3 * one
    assert found["relative accuracy drop"].samples == found["accuracy drop"].samples
    (share, never) = found["predictions unlike FP32's"].samples
    assert share_power(share, 0.01, 0.018, 0.05) >= 0.8
    assert never is None


def test_all_classes_pass_together_with_the_power_that_is_promised():
    each = needs()["worst class's recall drop"].samples[0]
    assert drop_power(each, 0.005, 0.005, 0.06, 0.05) ** 20 >= 0.8
    alone = plan(LIMITS, 0.05, Assumed((1.0,)), None)
    (single,) = [n for n in alone if n.title.startswith("worst class")]
    assert single.samples[0] < each


def test_a_loss_at_the_limit_is_never_passed():
    assert needs(drop_points=0.5)["accuracy drop"].samples == (None, None)
    smaller, none = (
        needs(drop_points=0.25)["accuracy drop"].samples,
        needs()["accuracy drop"].samples,
    )
    assert smaller[0] > 2 * none[0]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_the_command_reads_no_data_and_counts_the_candidates(workspace, monkeypatch, capsys):
    (workspace / "validation.npz").unlink()
    limit = ("--set", "limits={accuracy_drop_points_max: 1}")
    assert run(monkeypatch, "plan", "config.yaml", *limit) == 0
    text = capsys.readouterr().out
    assert "accuracy drop ≤ 1 points" in text
    assert "best of 2 INT8 candidates" in text
    assert run(monkeypatch, "plan", "config.yaml", *limit, "--json", "--changed", "2") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["alpha"] == 0.025
    (row,) = content["limits"]
    assert drop_power(row["samples"][0], 0.01, 0.01, 0.01, 0.025) >= 0.8


@pytest.mark.parametrize("changed", ["x", "1,", "-1", "101"])
def test_rates_that_are_none_are_refused(workspace, monkeypatch, capsys, changed):
    assert run(monkeypatch, "plan", "config.yaml", "--changed", changed) == 2
    assert "--changed" in capsys.readouterr().err
