"""Inputs of one split that are unlike the other's."""

import numpy as np
import pytest
import records

from calib.audit import AuditFacts, InputProfile, SplitFacts
from calib.audit.inputs import input_findings
from calib.results import Severity
from calib.stages.input_profiles import channels


def profile(samples):
    rows = [channels(sample) for sample in samples]
    return InputProfile(
        name="x",
        ids=tuple(f"s{k}" for k in range(len(samples))),
        statistics=np.stack([table for table, _ in rows]),
        values=rows[0][1],
        sizes=np.array([sample.shape for sample in samples]),
    )


def findings(calibration, validation):
    splits = [
        SplitFacts(len(x), len(x), 0, {}, inputs={"x": profile(x)})
        for x in (calibration, validation)
    ]
    return list(input_findings(AuditFacts(*splits, records.run().calibration)))


def images(seed, count):
    rng = np.random.default_rng(seed)
    bright = rng.uniform(0.5, 1.5, size=(count, 1, 1, 1))
    return (bright * rng.normal(size=(count, 3, 8, 8)) + 0.4).astype("f4")


@pytest.mark.parametrize("draw", ["images", "vectors", "heavy"])
def test_splits_drawn_alike_are_not_complained_of(draw):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        if draw == "images":
            given = images(seed, 200), images(seed + 99, 800)
        elif draw == "vectors":
            given = rng.normal(size=(200, 32)).astype("f4"), rng.normal(size=(800, 32)).astype("f4")
        else:
            given = (rng.gamma(2, size=(n, 16)).astype("f4") for n in (200, 800))
        assert findings(*given) == []


def test_sparse_features_that_calibration_never_had_are_no_alarm():
    rng = np.random.default_rng(0)
    both = (rng.random((1000, 200)) < 0.002).astype("f4") * rng.random((1000, 200)).astype("f4")
    assert findings(both[:200], both[200:]) == []


def test_a_split_of_another_scale_is_told_with_the_ratio():
    (found,) = findings(images(0, 100), 255 * images(1, 100))
    assert found.severity is Severity.ERROR
    assert "times larger than calibration on input x: wrong preprocessing?" in found.title
    assert float(found.title.split()[2]) == pytest.approx(255, rel=0.2)
    (found,) = findings(255 * images(0, 100), images(1, 100))
    assert "times smaller" in found.title


@pytest.mark.parametrize("what", ["scaled", "zeroed", "shifted"])
def test_a_channel_wrongly_preprocessed_in_one_sample_of_a_hundred_is_found(what):
    validation = images(1, 800)
    broken = [17, 100, 300, 301, 302, 640, 700, 799]
    if what == "scaled":
        validation[broken, 1] *= 100
    elif what == "zeroed":
        validation[broken, 1] = 0
    else:
        validation[broken, 1] += 20
    (found,) = findings(images(0, 200), validation)
    assert found.names == ("1",)
    assert found.samples == tuple(f"s{k}" for k in broken)
    assert "channel 1, in 8 of 800 samples: wrong preprocessing?" in found.title
    if what == "scaled":
        assert found.severity is Severity.ERROR
        ratio = np.abs(validation[broken, 1]).max() / np.abs(images(0, 200)[:, 1]).max()
        assert f"up to {ratio:.3g} times larger" in found.title


def test_calibration_with_broken_samples_is_found_too():
    calibration = images(0, 200)
    calibration[3, 2] *= 100
    (found,) = findings(calibration, images(1, 800))
    assert found.title.startswith("calibration is up to")
    assert found.samples == ("s3",)


@pytest.mark.parametrize(
    ("shape", "expected", "values"),
    [((3, 8, 9), 3, 72), ((8, 9, 3), 3, 72), ((5,), 5, 1), ((), 1, 1), ((2000, 3000), 1, 6000000)],
)
def test_channels_lie_along_the_shorter_of_the_first_and_last_axis(shape, expected, values):
    table, count = channels(np.ones(shape, "f4"))
    assert (table.shape, count) == ((expected, 3), values)


def test_integers_have_no_channels():
    assert channels(np.arange(4))[0].shape == (0, 3)
