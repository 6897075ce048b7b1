"""The ranked tail, and how far all samples moved."""

import math

import numpy as np
import pytest
import records
from hypothesis import given
from hypothesis import strategies as st

from calib.analysis.accuracy import SamplePair, Task
from calib.analysis.probability import are_probabilities, probabilities
from calib.analysis.tails import BesideFp16, Movement, analyse, rank_key
from calib.results import TaskKind
from calib.tasks import kind_from_spec
from calib.tasks.classification import ClassificationSpec
from data_loaders import Sample


def pair(number, reference, candidate, label=None):
    sample = Sample(f"s{number}", {"x": np.zeros(1)}, label)
    sides = ({"out": np.array(side, "f4")} for side in (reference, candidate))
    return SamplePair(sample, *sides)


def test_logits_become_probabilities_and_probabilities_stay_as_they_are():
    logits = np.array([1.0, 2.0, -1.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert not are_probabilities(logits)
    assert probabilities(logits, given=False) == pytest.approx(expected)
    assert are_probabilities(expected)
    assert probabilities(expected, given=True) == pytest.approx(expected)
    # The logarithm of probabilities is one of the logits that they come from.
    assert probabilities(np.log(expected), given=False) == pytest.approx(expected)
    masked = probabilities(np.array([-np.inf, 1.0, 1.0]), given=False)
    assert masked == pytest.approx([0.0, 0.5, 0.5])


@pytest.mark.parametrize("scores", [[3.0], [np.nan, 1.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_outputs_that_tell_no_probability_give_none(scores):
    assert probabilities(np.array(scores), given=False) is None


def test_flips_of_confident_samples_are_counted_by_fp32s_probability():
    pairs = [
        pair(0, [4.0, 0.0], [0.0, 1.0], 0),  # sure (0.98), right, now wrong
        pair(1, [4.0, 0.0], [0.0, 1.0], 1),  # sure, wrong, now right
        pair(2, [4.0, 0.0], [3.0, 0.0], 0),  # sure, the same
        pair(3, [0.1, 0.0], [0.0, 0.1], 0),  # unsure (0.52), now wrong
    ]
    kind = kind_from_spec(ClassificationSpec(), ["out"])
    task = Task(TaskKind.CLASSIFICATION, kind, kind)
    found = analyse(task, pairs, 2, lambda _: None)
    counts = {c.probability: (c.samples, c.flips, c.worsened) for c in found.moved.confident}
    assert counts == {
        0.5: (4, 3, 2),
        0.8: (3, 2, 1),
        0.9: (3, 2, 1),
        0.95: (3, 2, 1),
        0.99: (0, 0, 0),
    }
    assert [v.id for v in found.tail] == ["s0", "s3"]
    assert found.tail[0].reference_probability == pytest.approx(1 / (1 + math.exp(-4)))
    assert found.tail[0].probability == pytest.approx(1 / (1 + math.exp(-1)))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_percentiles_of_the_loss_of_margin_are_numpys(losses):
    movement = Movement()
    for loss in losses:
        movement.add(records.sample(margin_loss=loss))
    found = movement.summary().margin_loss
    for name, value in found.items():
        assert value == pytest.approx(np.percentile(losses, float(name)), rel=1e-9, abs=1e-9)


def test_an_output_that_is_not_finite_makes_the_worst_loss_infinite_and_no_other():
    movement = Movement()
    for loss in (*range(99), math.inf):
        movement.add(records.sample(margin_loss=float(loss)))
    found = movement.summary().margin_loss
    assert found["100"] == math.inf
    assert found["50"] == pytest.approx(49.5)
    assert found["95"] == pytest.approx(94.05)


def test_got_wrong_comes_before_any_loss_and_then_the_larger_loss():
    verdicts = [
        records.sample(id="b", flip="", margin_loss=9.0),
        records.sample(id="a", flip="worsened", margin_loss=1.0),
        records.sample(id="c", flip="", margin_loss=9.0),
    ]
    assert [v.id for v in sorted(verdicts, key=rank_key, reverse=True)] == ["a", "b", "c"]


def test_fp16s_answer_stands_beside_a_later_candidates():
    beside = BesideFp16()
    beside.keep(records.sample(id="a", prediction="dog", margin=0.5, probability=0.7))
    found = beside.beside(records.sample(id="a", prediction="cat"))
    assert (found.fp16.prediction, found.fp16.margin, found.fp16.probability) == ("dog", 0.5, 0.7)
    assert beside.beside(records.sample(id="b")).fp16 is None
