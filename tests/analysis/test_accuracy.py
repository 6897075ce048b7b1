"""Metrics against scikit-learn and numpy, and the tail against a plain sort."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn import metrics

from calib.analysis.accuracy import SamplePair, Task
from calib.analysis.tails import analyse
from calib.errors import DataError
from calib.results import TaskKind
from calib.tasks import TaskSpec, kind_from_spec
from data_loaders import Preview, Sample

CLASSES = ("cat", "dog", "bird", "fish")


def classification(count, seed, *, labelled=True):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(count, len(CLASSES)))
    candidate = reference + rng.normal(scale=0.7, size=reference.shape)
    labels = rng.integers(len(CLASSES), size=count)
    samples = [
        Sample(f"s{i:03d}", {}, int(labels[i]) if labelled else None, preview=Preview(text=f"t{i}"))
        for i in range(count)
    ]
    pairs = [pair(*row) for row in zip(samples, reference, candidate, strict=True)]
    return pairs, reference, candidate, labels


def pair(sample, reference, candidate):
    return SamplePair(sample, {"out": reference}, {"out": candidate})


def run(kind, pairs, tail=5, names=CLASSES):
    rows = []
    spec = TypeAdapter(TaskSpec).validate_python({"kind": kind})
    task = Task(kind, *(kind_from_spec(spec, ["out"], names) for _ in range(2)))
    return analyse(task, pairs, tail, rows.append), rows


def test_accuracy_and_recall_are_scikit_learns():
    pairs, reference, candidate, labels = classification(300, 0)
    found, rows = run(TaskKind.CLASSIFICATION, pairs)
    score, was, now = found.score, reference.argmax(1), candidate.argmax(1)
    assert score.samples == len(rows) == 300
    assert score.accuracy_pct == pytest.approx(100 * metrics.accuracy_score(labels, now))
    assert score.reference_accuracy_pct == pytest.approx(100 * metrics.accuracy_score(labels, was))
    balanced = metrics.balanced_accuracy_score(labels, now)
    assert score.macro_recall_pct == pytest.approx(100 * balanced)
    recalls = metrics.recall_score(labels, now, average=None)
    by_name = {c.name: c for c in score.classes}
    for index, name in enumerate(CLASSES):
        assert by_name[name].recall_pct == pytest.approx(100 * recalls[index])
        assert by_name[name].samples == (labels == index).sum()


def test_flips_are_counted_by_direction():
    pairs, reference, candidate, labels = classification(300, 1)
    flips = run(TaskKind.CLASSIFICATION, pairs)[0].flips
    was, now = reference.argmax(1), candidate.argmax(1)
    assert flips.total == (was != now).sum()
    assert flips.worsened == ((was == labels) & (now != labels)).sum()
    assert flips.improved == ((was != labels) & (now == labels)).sum()
    assert flips.sideways == flips.total - flips.worsened - flips.improved
    assert flips.unlabelled == 0


def test_without_labels_there_are_flips_but_no_accuracy():
    pairs, reference, candidate, _ = classification(100, 2, labelled=False)
    found, _ = run(TaskKind.CLASSIFICATION, pairs)
    assert found.score.samples == 0
    assert found.score.accuracy_pct is None
    assert found.flips.unlabelled == (reference.argmax(1) != candidate.argmax(1)).sum()


def margins(scores, truth):
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, truth] = -np.inf
    return scores[rows, truth] - others.max(axis=1)


def test_the_tail_is_what_a_full_sort_gives():
    pairs, reference, candidate, labels = classification(200, 3)
    found, _ = run(TaskKind.CLASSIFICATION, pairs, tail=17)
    loss = margins(reference, labels) - margins(candidate, labels)
    worsened = (reference.argmax(1) == labels) & (candidate.argmax(1) != labels)
    order = sorted(range(200), key=lambda i: (not worsened[i], -loss[i], i))[:17]
    assert [v.id for v in found.tail] == [pairs[i].sample.id for i in order]
    assert [v.margin_loss for v in found.tail] == pytest.approx([loss[i] for i in order])
    assert found.tail[0].text == f"t{order[0]}"


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(40)))
def test_the_order_of_samples_changes_nothing(order):
    pairs, *_ = classification(40, 4)
    expected, _ = run(TaskKind.CLASSIFICATION, pairs)
    found, _ = run(TaskKind.CLASSIFICATION, [pairs[i] for i in order])
    assert (found.score, found.flips, found.tail) == (expected.score, expected.flips, expected.tail)


def test_an_answer_that_is_not_finite_is_wrong_and_leads_the_tail():
    pairs, *_ = classification(10, 5)
    right = next(i for i, p in enumerate(pairs) if p.reference["out"].argmax() == p.sample.label)
    pairs[right].candidate["out"][:] = np.nan
    found, _ = run(TaskKind.CLASSIFICATION, pairs)
    assert found.not_finite == 1
    assert found.tail[0].id == pairs[right].sample.id
    assert found.tail[0].flip == "worsened"
    assert found.tail[0].margin_loss == math.inf


def one(label, output, reference=None):
    reference = output if reference is None else reference
    return [pair(Sample("s1", {}, label), np.asarray(reference), np.asarray(output))]


@pytest.mark.parametrize("label", [4, -1, 1.5])
def test_a_label_that_is_no_class_is_refused_by_the_samples_id(label):
    with pytest.raises(DataError, match=r"sample s1.*none of the model's classes"):
        run(TaskKind.CLASSIFICATION, one(label, [0.0, 1.0, 2.0, 3.0]))


def test_a_reference_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match=r"sample s1.*FP32's output is not finite"):
        run(TaskKind.CLASSIFICATION, one(0, [1.0, 2.0], [np.nan, 1.0]))


def test_scores_for_each_position_are_refused():
    with pytest.raises(DataError, match="a class for each position"):
        run(TaskKind.CLASSIFICATION, one(0, np.zeros((5, 4))))


@pytest.mark.parametrize("width", [1, 3])
def test_regression_errors_are_scikit_learns(width):
    rng = np.random.default_rng(6)
    target = rng.normal(size=(50, width))
    reference, candidate = (target + rng.normal(scale=s, size=target.shape) for s in (0.1, 0.2))
    pairs = [
        pair(Sample(f"s{i}", {}, target[i] if width > 1 else float(target[i, 0])), r, c)
        for i, (r, c) in enumerate(zip(reference, candidate, strict=True))
    ]
    score = run(TaskKind.REGRESSION, pairs)[0].score
    assert score.mean_abs_error == pytest.approx(metrics.mean_absolute_error(target, candidate))
    expected = metrics.root_mean_squared_error(target.ravel(), candidate.ravel())
    assert score.root_mean_square_error == pytest.approx(expected)
    expected = metrics.mean_absolute_error(target, reference)
    assert score.reference_mean_abs_error == pytest.approx(expected)
    with pytest.raises(DataError, match="label does not fit"):
        run(TaskKind.REGRESSION, one(np.zeros(width + 1), np.zeros(width)))


def test_embeddings_are_scored_by_their_cosine_to_fp32s():
    rng = np.random.default_rng(7)
    reference = rng.normal(size=(30, 8))
    candidate = reference + rng.normal(scale=0.3, size=reference.shape)
    pairs = [
        pair(Sample(f"s{i}", {}), r, c)
        for i, (r, c) in enumerate(zip(reference, candidate, strict=True))
    ]
    found, _ = run(TaskKind.EMBEDDING, pairs)
    cosines = np.diag(metrics.pairwise.cosine_similarity(reference, candidate))
    assert found.score.mean_cosine == pytest.approx(cosines.mean())
    assert found.score.worst_cosine == pytest.approx(cosines.min())
    assert found.tail[0].id == f"s{cosines.argmin()}"
