"""Bounds of every metric that a limit can be set on, against plain recomputation of resamples."""

import io
import math
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import jaccard_score, recall_score

from calib.gate.facts import loss_interval
from calib.gate.task_limits import METRICS
from calib.results.metrics import COARSE, QUANTILES, ClassMetric, loss_bounds
from calib.tasks import kind_from_spec
from calib.tasks.answers import QuestionAnsweringSpec
from calib.tasks.classification import ClassificationSpec
from calib.tasks.detection_spec import DetectionSpec
from calib.tasks.judging import Tally, judge
from calib.tasks.multilabel import MultiLabelSpec
from calib.tasks.recognition import TextRecognitionSpec
from calib.tasks.regression import RegressionSpec
from calib.tasks.resampling import drawn, gathered, quantiles, resampled_losses
from calib.tasks.retrieval import RetrievalSpec
from calib.tasks.segmentation import SegmentationSpec
from calib.tasks.similarity import SimilaritySpec
from calib.tasks.tagging import TokenClassificationSpec
from data_loaders.targets import AnswersTarget, ObjectsTarget, PairTarget, RelevanceTarget
from data_loaders.types import Sample

PICTURE = {"x": np.zeros((3, 400, 400), dtype=np.float32)}
COLUMNS = ("x1", "y1", "x2", "y2", "score", "class")
LABELS = (0, 1, 2)
SIZES = ("map_pct", "map_small_pct", "map_medium_pct", "map_large_pct")


def scene(rng):
    """Objects of all sizes, a crowd at times, and what two nets make of them: rows of COLUMNS."""
    count = int(rng.integers(0, 7))
    corner = rng.uniform(40, 220, (count, 2))
    boxes = np.hstack([corner, corner + rng.choice([20, 60, 130], (count, 1))])
    labels = rng.choice(LABELS, count, p=[0.6, 0.3, 0.1])
    truth = ObjectsTarget(
        boxes, labels, rng.random(count) < 0.1, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    )
    nets = []
    for noise in (3.0, 6.0):
        near = boxes + rng.normal(0, noise, boxes.shape)
        far = rng.uniform(0, 250, (3, 2))
        rows = np.vstack([near, np.hstack([far, far + 50])])
        named = np.append(labels, rng.choice(LABELS, 3))
        nets.append(np.column_stack([rows, rng.random(len(rows)), named]))
    return Sample("", PICTURE, truth), nets


def xywh(box):
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def coco_figures(scenes, net, chosen):
    """The figures of COCO's evaluator on a list of pictures, copies and all; AP by class."""
    images, annotations, results = [], [], []
    for image, index in enumerate(chosen, 1):
        truth, rows = scenes[index][0].label, scenes[index][1][net]
        images.append({"id": image})
        for box, label, crowd, area in zip(
            truth.boxes, truth.classes, truth.crowd, truth.areas, strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": xywh(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
        results += [
            {
                "image_id": image,
                "category_id": int(row[5]),
                "bbox": xywh(row[:4]),
                "score": float(row[4]),
            }
            for row in rows
        ]
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": label, "name": str(label)} for label in LABELS]
        coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    by_class = run.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    names = ("map_pct", "ap50_pct", "ap75_pct", *SIZES[1:])
    return dict(zip(names, 100 * run.stats[:6], strict=True)), 100 * by_class


def test_resampled_losses_of_a_detector_are_those_of_cocos_evaluator_on_the_resampled_pictures():
    rng = np.random.default_rng(3)
    scenes = [scene(rng) for _ in range(25)]
    kind = kind_from_spec(DetectionSpec(columns=COLUMNS), ["out"], [str(k) for k in LABELS])
    sides = []
    for net in (1, 0):
        answers = [kind.answer({"out": nets[net]}, sample) for sample, nets in scenes]
        pairs = zip(answers, scenes, strict=True)
        sides.append(
            gathered(kind, [kind.compare(a, kind.target(s)).statistics for a, (s, _) in pairs])
        )
    # With the fixed seed that resamples are drawn by.
    found = resampled_losses(kind, *sides, most=200)
    again = np.random.default_rng(0)
    for step in range(5):
        weights = drawn(again, len(scenes))
        chosen = np.repeat(np.arange(len(scenes)), weights.astype(int)).tolist()
        (ours, own_classes), (theirs, classes) = (
            coco_figures(scenes, net, chosen) for net in (1, 0)
        )
        for name, value in theirs.items():
            expected = math.nan if value < 0 else value - ours[name]
            np.testing.assert_allclose(found.metrics[name][step], expected, atol=1e-9)
        for label in LABELS:
            expected = classes[label] - own_classes[label] if classes[label] >= 0 else math.nan
            np.testing.assert_allclose(found.classes[str(label)][step], expected, atol=1e-9)


def test_figures_by_size_rest_on_the_pictures_with_such_objects_and_are_bounded_by_them():
    rng = np.random.default_rng(4)
    kind = kind_from_spec(DetectionSpec(columns=COLUMNS), ["out"], [str(k) for k in LABELS])
    tally, small, rare = Tally(kind, 200), 0, 0
    for number in range(30):
        sample, (reference, own) = scene(rng)
        truth = sample.label
        small += bool(((truth.areas <= 32**2) & ~truth.crowd).any())
        rare += bool(((truth.classes == 2) & ~truth.crowd).any())
        tally.add(str(number), judge(kind, sample, {"out": reference}, {"out": own}))
    by_name = {m.name: m for m in tally.metrics()}
    assert by_name["map_small_pct"].samples == small < 30
    assert by_name["map_pct"].samples is None
    for name in SIZES:
        metric = by_name[name]
        bounds = loss_interval(metric, 30, 0.05)
        reach = 100 * (1 - 0.05 ** (1 / (metric.samples or 30)))
        assert bounds.low <= metric.loss - reach < metric.loss + reach <= bounds.high
    classes = {c.name: c for c in tally.classes()}
    assert classes["2"].samples == rare
    assert len(classes["2"].resampled_losses) == len(COARSE)


def one_of_each(rng):
    """A kind of task for each limit, with answers as a net may give them."""
    n, letters = 12, "abcd"
    yield (
        kind_from_spec(SegmentationSpec(), ["out"], letters),
        [
            (
                Sample("", {}, rng.integers(0, 4, (6, 6))),
                *(rng.normal(size=(4, 6, 6)) for _ in "ab"),
            )
            for _ in range(n)
        ],
    )
    yield (
        kind_from_spec(MultiLabelSpec(), ["out"], letters),
        [
            (Sample("", {}, rng.integers(0, 2, 4)), *(rng.normal(size=4) for _ in "ab"))
            for _ in range(n)
        ],
    )
    tags = ["O", "B-X", "I-X"]
    yield (
        kind_from_spec(TokenClassificationSpec(), ["out"], tags),
        [
            (Sample("", {}, rng.integers(0, 3, 9)), *(rng.normal(size=(9, 3)) for _ in "ab"))
            for _ in range(n)
        ],
    )
    yield (
        kind_from_spec(TextRecognitionSpec(characters=letters + " "), ["out"]),
        [
            (
                Sample("", {}, "".join(rng.choice(list(letters + " "), 6))),
                *(rng.normal(size=(12, 6)) for _ in "ab"),
            )
            for _ in range(n)
        ],
    )
    yield (
        kind_from_spec(RegressionSpec(), ["out"]),
        [
            (Sample("", {}, float(y)), *(y + rng.normal(0, 0.3, 1) for _ in "ab"))
            for y in rng.normal(size=n)
        ],
    )
    yield (
        kind_from_spec(DetectionSpec(columns=COLUMNS), ["out"], letters),
        [(s, *nets) for s, nets in (scene(rng) for _ in range(n))],
    )


def rest_of_each(rng):
    """Those that read two outputs, or collect samples first."""
    words = "one two three four five six seven eight"
    ends = np.cumsum([len(w) + 1 for w in words.split()]) - 1
    offsets = np.stack([np.append(0, ends[:-1] + 1), ends], axis=1)
    names = ("start_logits", "end_logits")
    yield (
        [kind_from_spec(QuestionAnsweringSpec(), names) for _ in "ab"],
        [
            (
                Sample(
                    str(k), {}, AnswersTarget(words, (str(rng.choice(words.split())),), offsets)
                ),
                *({name: rng.normal(size=8) for name in names} for _ in "ab"),
            )
            for k in range(40)
        ],
    )

    def relevance(k):
        return RelevanceTarget(key=f"d{k}") if k < 30 else RelevanceTarget(grades={f"d{k - 30}": 1})

    def pair(k):
        return PairTarget(f"p{k // 2}", float(k // 2 % 7))

    for spec, label in ((RetrievalSpec(at=3), relevance), (SimilaritySpec(), pair)):
        yield (
            [kind_from_spec(spec, ["out"]) for _ in "ab"],
            [
                (Sample(str(k), {}, label(k)), *({"out": rng.normal(size=5)} for _ in "ab"))
                for k in range(60)
            ],
        )


def test_every_metric_that_a_limit_names_has_resampled_losses():
    rng = np.random.default_rng(0)
    bounded = set()
    cases = [
        ([kind, kind], [(s, *({"out": o} for o in sides)) for s, *sides in samples])
        for kind, samples in one_of_each(rng)
    ]
    for kinds, samples in [*cases, *rest_of_each(rng)]:
        if hasattr(kinds[0], "collect"):
            for side, kind in enumerate(kinds, 1):
                kind.collect((row[side], row[0]) for row in samples)
            samples = [row for row in samples if kinds[0].is_judged(row[0])]
        tally = Tally(kinds[0], 200)
        for number, (sample, reference, own) in enumerate(samples):
            tally.add(str(number), judge(kinds[0], sample, reference, own, kinds[1]))
        bounded |= {m.name for m in tally.metrics() if m.bounds(0.05) is not None}
        # A limit on agreement needs no labels; nor does it fail for there being some.
        first = tally.agreement()[0]
        assert (first.bounds(0.05) is None) == (first.unit != "%")
    assert {name for name, *_ in METRICS.values()} - bounded == {"value"}


def test_what_a_class_loses_is_bounded_as_plain_resampling_bounds_it():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, (50, 8, 8))
    scores = [truth[:, None] == np.arange(3)[:, None, None] for _ in "ab"]
    scores = [
        s + rng.normal(0, noise, s.shape) for s, noise in zip(scores, (0.3, 0.6), strict=True)
    ]
    kind = kind_from_spec(SegmentationSpec(), ["out"], list("abc"))
    tally = Tally(kind, 200)
    for number, (mask, reference, own) in enumerate(zip(truth, *scores, strict=True)):
        # Ids of two digits, so that their order is that of the arrays.
        tally.add(
            f"{number:02}",
            judge(kind, Sample("", {}, mask), {"out": reference}, {"out": own}),
        )
    again, losses = np.random.default_rng(0), []
    for _ in range(200):
        chosen = np.repeat(np.arange(50), drawn(again, 50).astype(int))
        masks = [s[chosen].argmax(axis=1).ravel() for s in scores]
        figures = [jaccard_score(truth[chosen].ravel(), mask, average=None) for mask in masks]
        losses.append(100 * (figures[0] - figures[1]))
    found = {c.name: c for c in tally.classes()}
    for index, name in enumerate("abc"):
        expected = np.quantile(np.array(losses)[:, index], [0.05, 0.95])
        bounds = loss_bounds(found[name].resampled_losses, 0.05)
        np.testing.assert_allclose(bounds, expected, atol=1e-9)
        assert found[name].samples == 50


def test_labels_are_weighed_as_scikit_learn_counts_copies():
    rng = np.random.default_rng(6)
    truth, scores = rng.integers(0, 2, (60, 4)), rng.normal(size=(60, 4))
    kind = kind_from_spec(MultiLabelSpec(), ["out"], list("abcd"))
    statistics = gathered(
        kind, [kind.compare(s, t > 0).statistics for s, t in zip(scores, truth, strict=True)]
    )
    weights = drawn(np.random.default_rng(1), 60)
    chosen = np.repeat(np.arange(60), weights.astype(int))
    expected = recall_score(truth[chosen], scores[chosen] > 0, average=None)
    assert list(kind.by_class(statistics, weights).values()) == pytest.approx(100 * expected)


def test_a_line_between_coarse_quantiles_is_no_narrower_than_the_tail():
    losses = np.random.default_rng(0).normal(size=4000)
    fine, coarse = quantiles(losses, QUANTILES), quantiles(losses, COARSE)
    for alpha in (0.05, 0.05 / 3, 0.05 / 6, 0.004):
        low, high = loss_bounds(fine, alpha)
        wide_low, wide_high = loss_bounds(coarse, alpha)
        assert wide_low <= low + 0.02
        assert high - 0.02 <= wide_high
    assert ClassMetric(name="a", value=40.0, reference=50.0).loss == 10


def test_an_output_that_is_no_number_loses_without_bound():
    kind = kind_from_spec(RegressionSpec(), ["out"])
    found = [
        kind.compare(np.array([answer]), np.array([target])).statistics
        for answer, target in ((1.0, 1.1), (np.nan, 2.0), (3.0, 2.9))
    ]
    figures = kind.summarise(found)
    assert (figures["r2"], figures["mean_abs_error"]) == (-math.inf, math.inf)
    without = kind.summarise(gathered(kind, found), np.array([2.0, 0.0, 1.0]))
    assert without["mean_abs_error"] == pytest.approx(0.1)


def test_where_both_are_equal_nothing_is_lost_in_any_resample():
    kind = kind_from_spec(ClassificationSpec(), ["out"])
    same = np.array([[0.0, 1.0], [1.0, 0.0]] * 10)
    assert set(resampled_losses(kind, same, same.copy()).metrics["accuracy_pct"]) == {0.0}
