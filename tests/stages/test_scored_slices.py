"""Damage planted in a part of the samples is found and named, for kinds without right and wrong."""

import numpy as np
import pytest
import records

from calib.analysis.accuracy import SamplePair, Task
from calib.analysis.slices import SlicesSpec, assignments
from calib.analysis.tails import analyse
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report.html import render_html
from calib.report.summary import render_summary
from calib.results import CandidateRecord, Precision, TaskKind, Verdict
from calib.stages.slices import Slicer
from calib.tasks import kind_from_spec
from calib.tasks.detection_spec import DetectionSpec
from calib.tasks.recognition import TextRecognitionSpec
from calib.tasks.regression import RegressionSpec
from calib.tasks.segmentation import SegmentationSpec
from data_loaders.targets import ObjectsTarget
from data_loaders.types import Sample

COUNT = 150
LETTERS = "abcdefgh"


def eroded(mask):
    """The mask without its rim of one pixel."""
    padded = np.pad(mask, 1)
    steps = [np.roll(padded, s, axis) for axis in (0, 1) for s in (1, -1)]
    return np.minimum.reduce([padded, *steps])[1:-1, 1:-1]


def mask(rng):
    found = np.zeros((24, 24), dtype=np.int64)
    y, x, h, w = rng.integers(2, 9, 4)
    found[y : y + h + 4, x : x + w + 4] = 1
    return found


def segmentation(rng, *, damaged):
    truth = mask(rng)
    scores = np.where(truth, 1.0, -1.0) + rng.normal(0, 0.45, truth.shape)
    own = scores + rng.normal(0, 0.1, truth.shape)
    if damaged:
        own = np.where(eroded((own > 0).astype(int)), 1.0, -1.0)
    return truth, scores[None], own[None]


def one_hot(text):
    """Scores by which greedy CTC reads the text."""
    steps = [k for letter in text for k in (LETTERS.index(letter) + 1, 0)]
    return np.eye(len(LETTERS) + 1)[steps]


def recognition(rng, *, damaged):
    text = "".join(rng.choice(list(LETTERS), 8))
    said = list(text)
    for place in rng.choice(8, 2 if damaged else int(rng.random() < 0.1), replace=False):
        said[place] = LETTERS[(LETTERS.index(said[place]) + 1) % 8]
    return text, one_hot(text), one_hot("".join(said))


def detection(rng, *, damaged):
    corner = rng.uniform(10, 150, (4, 2))
    boxes = np.hstack([corner, corner + 60])
    rows = np.column_stack([boxes + rng.normal(0, 2, boxes.shape), np.full(4, 0.9), np.zeros(4)])
    own = rows.copy()
    own[:, :4] += rng.normal(0, 1, (4, 4))
    if damaged:
        own[:2, 4] = 0.1
    area = np.full(4, 3600.0)
    return ObjectsTarget(boxes, np.zeros(4, int), np.zeros(4, bool), area), rows, own


def regression(rng, *, damaged):
    target = float(rng.normal())
    reference = target + rng.normal(0, 0.2)
    return target, np.array([reference]), np.array([reference + 0.05 + 0.8 * damaged])


CASES = {
    "segmentation": (SegmentationSpec(threshold=0.0), segmentation, "mean IoU", 3.0),
    "text_recognition": (TextRecognitionSpec(characters=LETTERS), recognition, "character", 5.0),
    "detection": (
        DetectionSpec(columns=("x1", "y1", "x2", "y2", "score", "class")),
        detection,
        "F1 of the boxes seen",
        5.0,
    ),
    "regression": (RegressionSpec(), regression, "mean absolute error", 0.2),
}


def run_of(name, share, seed=0):
    """A run's record of one kind; of the samples from a phone a share is damaged."""
    spec, draw, *_ = CASES[name]
    rng = np.random.default_rng(seed)
    kind = kind_from_spec(spec, ["out"], ["a", "b"])
    known, pairs = {}, []
    for k in range(COUNT):
        source = ("phone", "scan", "camera")[k % 3]
        damaged = source == "phone" and rng.random() < share
        label, reference, own = draw(rng, damaged=damaged)
        inputs = {"x": np.zeros((3, 240, 240), dtype=np.float32)}
        sample = Sample(f"s{k:03}", inputs, label, metadata={"source": source})
        known[sample.id] = dict(sample.metadata) | {"noise": float(rng.random())}
        pairs.append(SamplePair(sample, {"out": reference}, {"out": own}))
    slicer = Slicer(
        SlicesSpec(),
        has_classes=False,
        known=known,
        families=assignments(known, SlicesSpec()),
        score=kind.sample_metric.title,
    )
    found = analyse(
        Task(TaskKind(spec.kind), kind, kind), pairs, 5, lambda v: slicer.add("int8-minmax", v)
    )
    own = records.candidate(score=found.score, flips=found.flips, tail=found.tail, slices=())
    assert isinstance(own, CandidateRecord)
    assert own.precision is Precision.INT8
    return records.run(records.fp32(), slicer.scored(own, found.part))


def judged(run, **limits):
    return run.model_copy(update={"verdict": evaluate(run, LimitsSpec(**limits))})


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_slice_is_found_named_and_held(name):
    _, _, title, limit = CASES[name]
    run = judged(run_of(name, share=1.0), worst_slice_loss_max=limit)
    own = run.candidate("int8-minmax")
    assert own.found_slices[0].condition.startswith("source is phone")
    assert own.found_slices[0].loss > own.found_slices[0].rest_loss
    verdict = next(c for c in run.verdict.candidates if c.candidate == "int8-minmax")
    (rule,) = (r for r in verdict.rules if r.rule == "worst_slice_loss_max")
    assert rule.verdict is Verdict.FAIL
    assert rule.details.startswith(f"source phone: {title}")
    by_name = {s.name: s.figure for s in own.slices if s.family == "source"}
    assert by_name["phone"].loss > limit > by_name["scan"].loss
    assert by_name["phone"].samples == COUNT // 3
    page = render_html(run)
    assert "At most" in page
    assert by_name["phone"].title in page
    assert "source is phone" in render_summary(run)


@pytest.mark.parametrize("name", ["segmentation", "text_recognition", "regression"])
def test_where_nothing_is_damaged_no_slice_breaks_the_limit(name):
    run = judged(run_of(name, share=0.0, seed=1), worst_slice_loss_max=CASES[name][3])
    assert run.verdict.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE)
    own = run.candidate("int8-minmax")
    assert own.found_slices == ()
    # The slices' figures are those of their samples: where all are one, of all.
    whole = own.score.metrics[0]
    noise = [s.figure for s in own.slices if s.family == "noise"]
    if noise[0].name == whole.name and name == "regression":
        mean = sum(f.value * f.samples for f in noise) / COUNT
        assert mean == pytest.approx(whole.value)
