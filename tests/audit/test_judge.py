"""Samples seen from inside: ranges, distance, duplicates, and how sure thresholds are."""

import numpy as np
import pytest
import records

from calib.analysis.profiles import ProfileAccumulator
from calib.audit import AuditFacts, SplitFacts, judge
from calib.results import ActivationRecord, Severity

TENSORS = ("a", "b", "c")


def split(arrays, thresholds, hidden=None, **changes):
    """Samples whose tensors are rows of (samples, tensors, values)."""
    found = ProfileAccumulator(TENSORS, {"minmax": thresholds})
    for k, own in enumerate(arrays):
        vector = own.mean(axis=1) if hidden is None else hidden[k]
        found.add(f"s{k}", dict(zip(TENSORS, own, strict=True)), vector, -1)
    values = {"samples": len(arrays), "distinct": len(arrays), "labelled": 0, "classes": {}}
    return SplitFacts(**{**values, **changes}, profiles=found.freeze())


def judged(calibration, validation, thresholds=None, hidden=(None, None), **changes):
    largest = np.abs(calibration).max(axis=(0, 2)).tolist()
    amax = thresholds or dict(zip(TENSORS, largest, strict=True))
    activations = tuple(
        ActivationRecord(
            tensor=name,
            consumers=(f"node-{name}",),
            count=1,
            zeros=0,
            minimum=-top,
            maximum=top,
            amax={"minmax": amax[name]},
            clipped_pct={"minmax": 0.0},
            **changes,
        )
        for name, top in zip(TENSORS, largest, strict=True)
    )
    record = records.run().calibration.model_copy(
        update={"activations": activations, "samples": len(calibration), "tolerance_pct": 5.0}
    )
    splits = [split(x, amax, h) for x, h in zip((calibration, validation), hidden, strict=True)]
    return judge(AuditFacts(*splits, record))


def draw(seed, count):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 3, 40)) * rng.uniform(0.7, 1.3, (count, 1, 1))).astype("f4")


def spread(seed, count):
    """Hidden vectors in which some samples are more alike than others."""
    return np.random.default_rng(seed).normal(size=(count, 6)).astype("f4")


def test_splits_drawn_alike_are_not_complained_of():
    for seed in range(10):
        hidden = (spread(seed, 60), spread(seed + 50, 80))
        found = judged(draw(seed, 60), draw(seed + 99, 80), hidden=hidden)
        assert [f for f in found.findings if f.severity is not Severity.INFO] == []


def test_samples_beyond_the_range_are_told_with_tensor_node_and_sample():
    validation = draw(1, 80)
    validation[7, 1] *= 30
    found = judged(draw(0, 60), validation)
    finding = next(f for f in found.findings if f.check == "ranges")
    assert (finding.tensor, finding.nodes, finding.severity) == ("b", ("node-b",), Severity.ERROR)
    assert finding.samples[0] == "s7"
    ratio = np.abs(validation[7, 1]).max() / np.abs(draw(0, 60)[:, 1]).max()
    audit = next(t for t in found.tensors if t.tensor == "b")
    assert audit.beyond_ratio == pytest.approx(ratio)
    assert audit.beyond_sample == "s7"


@pytest.mark.parametrize(
    ("samples", "times", "threshold", "severity"),
    [
        (40, 1.3, 1.5, Severity.INFO),  # the calibrator is wider than what calibration reached
        (1, 4.2, 1.0, Severity.WARNING),  # one value of 3,200: some hundredths of the energy
        (1, 60.0, 1.0, Severity.ERROR),
    ],
)
def test_a_range_left_is_as_grave_as_what_clipping_costs(samples, times, threshold, severity):
    own, other = draw(0, 60), draw(1, 80)
    largest = np.abs(own).max(axis=(0, 2)).tolist()
    other[:samples, 1, 0] = times * largest[1]
    amax = dict(zip(TENSORS, [largest[0], threshold * largest[1], largest[2]], strict=True))
    found = judged(own, other, amax)
    finding = next(f for f in found.findings if f.check == "ranges")
    x = np.abs(other[:, 1].astype("f8"))
    lost = 100 * (np.maximum(x - amax["b"], 0) ** 2).sum() / (x**2).sum()
    assert (finding.tensor, finding.severity) == ("b", severity)
    assert f"{lost:.2g} % of its energy" in finding.evidence


def test_a_tenth_of_a_scale_is_told_as_too_small_for_calibration_itself():
    largest = dict(zip(TENSORS, np.abs(draw(0, 60)).max(axis=(0, 2)).tolist(), strict=True))
    found = judged(draw(0, 60), draw(1, 80), {**largest, "c": largest["c"] / 10})
    finding = next(f for f in found.findings if f.check == "saturation")
    assert (finding.tensor, finding.severity) == ("c", Severity.ERROR)
    assert "too small for calibration's own samples" in finding.action
    x = np.abs(draw(1, 80)[:, 2].astype("f8"))
    over = np.maximum(x - largest["c"] / 10, 0)
    own = next(t for t in found.tensors if t.tensor == "c").saturation["minmax"]
    assert own.lost_pct == pytest.approx(100 * (over**2).sum() / (x**2).sum())
    assert own.clipped_pct == pytest.approx(100 * (over > 0).mean())


def test_ten_times_a_scale_is_told_as_codes_never_used():
    largest = dict(zip(TENSORS, np.abs(draw(0, 60)).max(axis=(0, 2)).tolist(), strict=True))
    found = judged(draw(0, 60), draw(1, 80), {**largest, "a": largest["a"] * 10})
    (finding,) = [f for f in found.findings if f.check == "saturation"]
    assert finding.tensor == "a"
    assert "10 times" in finding.title


def test_tensors_that_differ_are_told_and_the_first_of_them_is_nearest_to_the_cause():
    validation = draw(1, 80)
    validation[:, 1:] = np.abs(validation[:, 1:])
    found = judged(draw(0, 60), validation)
    finding = next(f for f in found.findings if f.check == "distance")
    assert finding.tensor == "b"
    assert "2 tensors" in finding.title
    assert next(t for t in found.tensors if t.tensor == "a").p_adjusted > 0.01


def test_near_copies_across_the_splits_and_exact_ones_within_are_found():
    own, other = spread(0, 60), spread(1, 80)
    other[4] = own[9] * 1.0001
    found = judged(draw(0, 60), draw(1, 80), hidden=(own, other))
    (finding,) = [f for f in found.findings if f.check == "duplicates"]
    assert "s4 = s9" in finding.evidence
    facts = AuditFacts(
        SplitFacts(100, 90, 0, {}), SplitFacts(1000, 999, 0, {}), records.run().calibration
    )
    twice = [f for f in judge(facts).findings if f.check == "duplicates"]
    assert [f.severity for f in twice] == [Severity.WARNING, Severity.INFO]
    assert twice[0].title.startswith("10 of 100 calibration samples")


def test_samples_unlike_all_of_calibration_are_named():
    rng = np.random.default_rng(0)
    towards = np.array([5, 0, 0, 0, 0, 0], "f4")
    own = (towards + rng.normal(size=(60, 6))).astype("f4")
    other = (towards + rng.normal(size=(80, 6))).astype("f4")
    other[[3, 30, 70]] *= -1
    found = judged(draw(0, 60), draw(1, 80), hidden=(own, other))
    (finding,) = [f for f in found.findings if f.check == "unlike"]
    assert sorted(finding.samples) == ["s3", "s30", "s70"]


def test_thresholds_that_have_not_settled_and_halves_that_disagree_are_told():
    changes = {
        "enough": {"minmax": False},
        "standard_error_pct": {"minmax": 12.0},
        "halves_pct": {"minmax": 140.0},
    }
    found = judged(draw(0, 60), draw(1, 80), **changes)
    checks = {f.check: f for f in found.findings}
    assert "3 of 3 of minmax" in checks["converged"].title
    assert "120 samples" in checks["converged"].action
    assert "140 %" in checks["resampling"].evidence


def test_nothing_to_look_at_is_no_finding():
    facts = AuditFacts(
        SplitFacts(10, 10, 0, {}), SplitFacts(10, 10, 0, {}), records.run().calibration
    )
    found = judge(facts)
    assert (found.findings, found.tensors, found.worst) == ((), (), None)
