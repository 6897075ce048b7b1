"""The space of a sweep: what it holds, and what is said of one that is wrong."""

import itertools
import re

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from small import ROOT, config

from calib.config import load_experiment
from calib.errors import ConfigError
from calib.settings import with_overrides
from calib.specs.sweep import AxisSpec, SweepSpec
from calib.sweep.labels import labels
from calib.sweep.planning import plan_of
from calib.sweep.space import Space, read_base, settings_of

CALIBRATORS = {
    "values": [
        [{"kind": "minmax"}],
        [{"kind": "percentile", "percentile": 99.9}],
        [{"kind": "mse"}],
    ]
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.yaml"


def base(file, space=None, **spec):
    content = {**config(), "sweep": {**({"space": space} if space else {}), **spec}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_base(file, [])


def test_the_points_are_the_product_and_each_is_the_experiment_that_set_gives(file):
    space = {
        "calibration.calibrators": CALIBRATORS,
        "quantization.min_channels": {"low": 4, "high": 16, "step": 4, "int": True},
        "engines.fold_batchnorm": {"values": [True, False]},
    }
    found = base(file, space)
    points = list(found.space.points())
    assert found.space.size == len(points) == 3 * 4 * 2
    assert len({tuple(p.items()) for p in points}) == len(points)
    for point in points:
        alone = load_experiment(file, settings_of(point))
        assert found.trial(point) == alone.model_copy(update={"sweep": None})
    ids = {
        (e.candidate_names, e.quantization.min_channels, e.engines.fold_batchnorm)
        for e in map(found.trial, points)
    }
    assert len(ids) == len(points)


def test_a_range_is_named_step_by_step_and_within_its_ends():
    steps = AxisSpec(low=0.1, high=1.0, step=0.3)
    assert [float(t) for t in steps.texts] == pytest.approx(np.arange(0.1, 1.01, 0.3))
    assert AxisSpec(low=3, high=9, step=4, int=True).texts == ("3", "7")
    assert AxisSpec(low=1, high=1024, int=True, log=True).corners == ("1", "1024")
    free = AxisSpec(low=99.0, high=99.999, log=True)
    assert free.texts is None
    assert float(free.text_of(99.99899999)) <= 99.999
    # Whatever is drawn is read back as the number that it is.
    for value in np.random.default_rng(0).uniform(1e-7, 1e-5, 50):
        text = AxisSpec(low=1e-7, high=1e-5).text_of(value)
        assert with_overrides({}, [f"x={text}"])["x"] == pytest.approx(value, rel=1e-5)


def test_without_a_space_calibrators_are_tried_with_and_without_remedies(file):
    found = base(file)
    plan = plan_of(found)
    assert (plan.trials, plan.size, plan.sampler) == (8, 8, "grid")
    kinds = {
        (e.calibration.calibrators[0].kind, e.quantization.remedies)
        for e in map(found.trial, found.space.points())
    }
    expected = itertools.product(("minmax", "entropy", "percentile", "mse"), ("none", "auto"))
    assert kinds == set(expected)
    file.write_text(yaml.safe_dump({**config(), "quantization": "auto"}), encoding="utf-8")
    short = read_base(file, [])
    assert short.experiment == load_experiment(file)
    assert [short.trial(p).quantization.remedies for p in short.space.points()][:2] == [
        "none",
        "auto",
    ]
    given = [*short.spelled_out, *settings_of(next(short.space.points()))]
    assert load_experiment(file, given) == short.trial(next(short.space.points()))


@pytest.mark.parametrize(
    ("space", "where", "said"),
    [
        ({"quantization.residuals": {"values": ["all"]}}, "residuals", "did you mean residual?"),
        ({"quantization.residual": {"values": ["some"]}}, "residual", "residual=some makes no"),
        ({"engines.rest": {"values": [["int4"]]}}, "engines.rest", "makes no experiment"),
        (
            {"calibration.calibrators.7.kind": {"values": ["minmax"]}},
            "calibrators.7.kind",
            "no such list item",
        ),
        ({"quantization.min_channels": {"low": -3, "high": 8, "int": True}}, "min_channels", "-3"),
        ({"limits.alpha": {"values": [0.2]}}, "limits.alpha", "held against each other"),
        ({"data.validation.samples": {"values": [9]}}, "data.validation", "held against"),
        ({"engines": {"values": [{}]}, "engines.rest": {"values": [["fp32"]]}}, "rest", "undo"),
    ],
)
def test_a_space_that_makes_no_experiment_is_refused_with_its_place(file, space, where, said):
    with pytest.raises(ConfigError) as refused:
        base(file, space)
    assert str(refused.value).startswith(f"{file}: sweep.space.")
    assert where in refused.value.where
    assert said in str(refused.value)


def test_values_that_do_not_go_together_are_found_before_anything_runs(file):
    space = {
        "quantization.layout": {"values": ["native", "tensorrt"]},
        "quantization.reduce_range": {"values": [True, False]},
    }
    with pytest.raises(
        ConfigError, match=r"layout=tensorrt, quantization\.reduce_range=true"
    ) as no:
        base(file, space)
    assert "one value of the part above them" in str(no.value)
    together = [{"layout": "native", "reduce_range": True}, {"layout": "tensorrt"}]
    assert base(file, {"quantization": {"values": together}}).space.size == 2


def test_a_space_too_large_for_all_corners_is_checked_by_pairs():
    space = Space({f"a{n}": AxisSpec(values=tuple(range(5))) for n in range(7)})
    corners = list(space.corners())
    assert len(corners) < 5**7
    for one, other in itertools.combinations(space.axes, 2):
        pairs = {(corner[one], corner[other]) for corner in corners}
        assert len(pairs) == 25


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ({}, "needs values, or low and high"),
        ({"low": 1}, "needs values, or low and high"),
        ({"values": [1], "low": 1}, "so low has no meaning"),
        ({"values": [1, 1]}, "twice"),
        ({"low": 2, "high": 2}, "below high"),
        ({"low": 0, "high": 2, "log": True}, "log needs low > 0"),
        ({"low": 0.5, "high": 2, "int": True}, "whole numbers"),
        ({"low": 0, "high": float("inf")}, "finite"),
        ({"value": [1]}, "Extra inputs"),
    ],
)
def test_an_axis_that_is_none_is_refused(axis, said):
    with pytest.raises(ValidationError, match=said):
        AxisSpec(**axis)


def test_a_grid_without_end_or_larger_than_the_trials_is_refused(file):
    ranged = {"calibration.tolerance_pct": {"low": 1, "high": 9}}
    with pytest.raises(ConfigError, match=r"sweep\.sampler"):
        plan_of(base(file, ranged, sampler="grid"))
    with pytest.raises(ConfigError, match=r"3 points.*2 at most"):
        plan_of(base(file, {"calibration.calibrators": CALIBRATORS}, sampler="grid", trials=2))
    assert plan_of(base(file, ranged)).sampler == "tpe"
    assert plan_of(base(file, {"calibration.calibrators": CALIBRATORS}, trials=2)).sampler == "tpe"


def test_labels_say_what_differs_and_nothing_else():
    points = [
        {"calibration.calibrators": text, "quantization.layout": "native", "engines.rest": "[fp32]"}
        for text in ("[{kind: minmax}]", "[{kind: percentile, percentile: 99.9}]")
    ]
    assert labels(points) == ["minmax", "percentile 99.9"]
    counts = [{"data.calibration.args.count": "64"}, {"data.calibration.args.count": "128"}]
    assert labels(counts) == ["count 64", "count 128"]


def test_the_examples_of_the_document_are_spaces_of_the_example_configs():
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    specs = [SweepSpec(**yaml.safe_load(b)["sweep"]) for b in blocks if "sweep:" in b]
    assert specs
    content = yaml.safe_load((ROOT / "configs" / "textline_int8.yaml").read_text("utf-8"))
    for spec in specs:
        content["sweep"] = yaml.safe_load(spec.model_dump_json(exclude_unset=True))
        found = ROOT / "configs" / "textline_int8.yaml"
        overrides = [f"sweep={yaml.safe_dump(content['sweep'], default_flow_style=True)}"]
        assert read_base(found, overrides).space.axes.keys() == spec.space.keys()
