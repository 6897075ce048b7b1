import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap

from calib.errors import DataError
from calib.results.metrics import QUANTILES
from calib.tasks import kind_from_spec
from calib.tasks.classification import ClassificationSpec
from calib.tasks.judging import Tally, judge, vanished
from calib.tasks.python import PythonTaskSpec
from calib.tasks.segmentation import SegmentationSpec
from data_loaders.types import Sample

ids = itertools.count()


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def logits(winner, classes=3):
    return {"out": np.eye(classes)[winner]}


@pytest.mark.parametrize(
    ("label", "reference", "candidate", "flip"),
    [
        (0, 0, 0, ""),
        (0, 0, 1, "worsened"),
        (0, 1, 0, "improved"),
        (0, 1, 2, "sideways"),
        (None, 1, 2, "unlabelled"),
        (None, 1, 1, ""),
    ],
)
def test_a_flip_has_a_direction(label, reference, candidate, flip):
    kind = kind_from_spec(ClassificationSpec(), ["out"])
    found = judge(kind, Sample("a", {}, label), logits(reference), logits(candidate))
    assert found.flip == flip


def test_without_labels_the_truth_is_what_fp32_said():
    kind = kind_from_spec(ClassificationSpec(), ["out"])
    tally = Tally(kind)
    for reference, candidate in ((0, 0), (1, 1), (2, 1), (0, 0)):
        tally.add(
            str(next(ids)), judge(kind, Sample("a", {}), logits(reference), logits(candidate))
        )
    assert tally.labelled == 0
    assert tally.metrics() == ()
    assert tally.agreement()[0].value == 75


def test_the_interval_of_a_loss_is_scipys_paired_bootstrap(rng):
    kind, tally = kind_from_spec(ClassificationSpec(), ["out"]), None
    tally = Tally(kind)
    right = []
    for _ in range(300):
        label = int(rng.integers(0, 3))
        reference = label if rng.random() < 0.9 else (label + 1) % 3
        candidate = reference if rng.random() < 0.9 else (reference + 1) % 3
        right.append((reference == label, candidate == label))
        tally.add(
            str(next(ids)),
            judge(kind, Sample("a", {}, label), logits(reference), logits(candidate)),
        )
    theirs, ours = np.array(right, dtype=float).T
    found = bootstrap(
        (theirs, ours),
        lambda a, b, axis: 100 * (a.mean(axis=axis) - b.mean(axis=axis)),
        paired=True,
        method="percentile",
        confidence_level=0.9,
        n_resamples=4000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    accuracy = tally.metrics()[0]
    low, high = (accuracy.resampled_losses[QUANTILES.index(q)] for q in (0.05, 0.95))
    assert accuracy.loss == pytest.approx(100 * (theirs.mean() - ours.mean()))
    assert low == pytest.approx(found.low, abs=0.5)
    assert high == pytest.approx(found.high, abs=0.5)


def test_a_class_that_vanished_is_named():
    kind = kind_from_spec(ClassificationSpec(), ["out"], ["common", "rare", "lost before"])
    tally = Tally(kind)
    for label, reference, candidate in [(0, 0, 0)] * 97 + [(1, 1, 0)] * 2 + [(2, 0, 0)]:
        tally.add(
            str(next(ids)),
            judge(kind, Sample("a", {}, label), logits(reference), logits(candidate)),
        )
    assert vanished(tally.classes()) == ("rare",)


def test_a_reference_that_is_not_finite_is_refused_and_a_candidate_is_not():
    kind = kind_from_spec(SegmentationSpec(), ["out"])
    good, bad = {"out": np.zeros((2, 3, 3))}, {"out": np.full((2, 3, 3), np.nan)}
    sample = Sample("a", {}, np.zeros((3, 3), dtype=int))
    with pytest.raises(DataError, match="not finite"):
        judge(kind, sample, bad, good)
    assert judge(kind, sample, good, bad).score == 0


def test_a_label_that_fits_no_output_is_refused_by_the_samples_name():
    kind = kind_from_spec(ClassificationSpec(), ["out"])
    with pytest.raises(DataError, match=r"sample a: the label does not fit"):
        judge(kind, Sample("a", {}, 7), logits(0), logits(0))


@pytest.fixture
def own_metric(tmp_path, monkeypatch):
    (tmp_path / "own_metric.py").write_text(
        "class Hits:\n"
        "    def sample(self, outputs, label):\n"
        "        hit = float(outputs['out'].argmax() == label)\n"
        "        return hit, [hit, 1]\n"
        "    def total(self, sums):\n"
        "        return 100 * sums[0] / sums[1]\n"
        "class Broken:\n"
        "    def sample(self, outputs, label):\n"
        "        return outputs['missing']\n"
        "    def total(self, sums):\n"
        "        return 0\n"
        "class Half:\n"
        "    def sample(self, outputs, label):\n"
        "        return 1, [1]\n"
    )
    monkeypatch.chdir(tmp_path)


def test_a_metric_of_ones_own_is_two_functions(own_metric):
    kind = kind_from_spec(PythonTaskSpec(entry="own_metric:Hits", unit="%"), ["out"])
    tally = Tally(kind)
    for winner in (0, 1, 1, 2):
        tally.add(str(next(ids)), judge(kind, Sample("a", {}, 1), logits(1), logits(winner)))
    (found,) = tally.metrics()
    assert (found.value, found.reference, found.unit) == (50, 100, "%")


def test_mistakes_in_it_are_named(own_metric):
    kind = kind_from_spec(PythonTaskSpec(entry="own_metric:Broken"), ["out"])
    with pytest.raises(DataError, match="KeyError"):
        judge(kind, Sample("a", {}, 1), logits(1), logits(1))
    with pytest.raises(DataError, match="no function total"):
        kind_from_spec(PythonTaskSpec(entry="own_metric:Half"), ["out"])
