"""Classes and slices that a split lacks."""

import numpy as np
import pytest
import records

from calib.audit import AuditFacts, SplitFacts
from calib.audit.coverage import coverage, group_counts, is_sorted
from calib.results import Severity


def split(labels, slices=None, predicted=False):
    names, counts = np.unique(labels, return_counts=True) if len(labels) else ((), ())
    return SplitFacts(
        samples=len(labels),
        distinct=len(labels),
        labelled=len(labels),
        classes={str(n): int(c) for n, c in zip(names, counts, strict=True)},
        predicted=predicted,
        label_changes=int(np.count_nonzero(np.diff(labels))) if len(labels) else 0,
        slices=slices or {},
    )


def findings(calibration, validation, classes=0):
    known = tuple(map(str, range(classes)))
    return list(coverage(AuditFacts(calibration, validation, records.run().calibration, known)))


def drawn(seed, count, classes=20):
    return np.random.default_rng(seed).integers(0, classes, count)


def test_splits_drawn_alike_are_not_complained_of():
    for seed in range(30):
        assert findings(split(drawn(seed, 500)), split(drawn(seed + 99, 2000)), 20) == []


def test_a_class_that_calibration_has_none_of_is_named_with_how_many_to_add():
    calibration = drawn(0, 500)
    calibration = calibration[calibration != 7]
    (found,) = findings(split(calibration), split(drawn(1, 2000)), 20)
    assert found.names == ("7",)
    assert "samples of class 7" in found.action
    added = int(found.action.split("about ")[1].split()[0])
    assert added == pytest.approx(len(calibration) * np.mean(drawn(1, 2000) == 7), rel=0.1)


def test_a_class_that_is_much_too_rare_is_found_too():
    calibration = np.concatenate([np.zeros(495, int), np.ones(5, int)])
    (found,) = findings(split(calibration), split(drawn(1, 1000, 2)))
    assert found.names == ("1",)
    assert found.title == "calibration has too few of class 1"
    assert found.severity is Severity.WARNING


def test_two_thousand_rows_of_a_sorted_file_with_6_of_20_classes_are_an_error():
    rows = np.sort(drawn(0, 6667))[:2000]
    rows = rows[rows < 6]
    found = [f for f in findings(split(drawn(1, 500)), split(rows), 20) if "validation" in f.title]
    assert found[0].severity is Severity.ERROR
    assert found[0].names == tuple(map(str, range(6, 20)))
    assert "hold 6 of 20 classes" in found[0].evidence
    assert "sorted" in found[0].evidence
    assert "Shuffle" in found[0].action
    # What it holds too much of is no reason to want more of it in calibration.
    assert len(findings(split(drawn(1, 500)), split(rows), 20)) == 1


def test_few_samples_of_many_classes_lack_some_by_chance():
    found = findings(split(drawn(0, 500, 1000)), split(drawn(1, 500, 1000)), 1000)
    lacking = [f for f in found if f.title.startswith("validation lacks")]
    assert [f.severity for f in lacking] == [Severity.INFO]


def test_slices_are_held_against_each_other_as_classes_are():
    calibration = split(np.zeros(100, int), {"source": {"mail": 100}})
    validation = split(np.zeros(400, int), {"source": {"mail": 300, "forum": 100}})
    (found,) = findings(calibration, validation)
    assert found.names == ("forum",)
    assert "Add about 25 samples of source forum." in found.action
    (found,) = findings(validation, calibration)
    assert found.title == "validation lacks source forum"


def test_predictions_stand_for_labels_and_the_finding_says_so():
    calibration = split(np.zeros(100, int), predicted=True)
    (found,) = findings(calibration, split(drawn(1, 1000, 2)))
    assert "FP32's prediction" in found.evidence


@pytest.mark.parametrize(
    ("labels", "expected"), [(np.sort(drawn(3, 300)), True), (drawn(3, 300), False)]
)
def test_labels_in_blocks_are_told_from_shuffled_ones(labels, expected):
    assert is_sorted(split(labels)) is expected


def test_the_counts_of_both_splits_are_recorded():
    facts = AuditFacts(split([0, 0, 1]), split([1, 2]), records.run().calibration, ("0", "1", "2"))
    counts = {g.name: (g.calibration, g.validation) for g in group_counts(facts)}
    assert counts == {"0": (2, 0), "1": (1, 1), "2": (0, 1)}
