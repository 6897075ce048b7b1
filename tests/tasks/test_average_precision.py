import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calib.tasks.average_precision import (
    DETECTIONS_MAX,
    IOU_THRESHOLDS,
    Found,
    Truth,
    match,
)
from calib.tasks.precision_table import PrecisionTable

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2)}


def scenes(seed, pictures=12, classes=3):
    """Pictures with objects, crowds among them, and detections near and far from them."""
    rng = np.random.default_rng(seed)
    for _ in range(pictures):
        objects = int(rng.integers(0, 9))
        corner = rng.uniform(0, 300, (objects, 2))
        boxes = np.hstack([corner, corner + rng.uniform(8, 150, (objects, 2))])
        labels = rng.integers(0, classes, objects)
        crowd = rng.random(objects) < 0.15
        near = boxes[rng.integers(0, objects, 14)] if objects else np.zeros((0, 4))
        near = near + rng.normal(0, 6, near.shape)
        far = rng.uniform(0, 300, (5, 2))
        found = np.vstack([near, np.hstack([far, far + rng.uniform(8, 150, (5, 2))])])
        # Few digits make ties, which are decided by order.
        scores = rng.random(len(found)).round(1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        yield (
            Found(found, scores, rng.integers(0, classes, len(found))),
            Truth(boxes, labels, crowd, area),
        )


def xywh(box):
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def reference(pictures, weights=None):
    """COCO's own evaluator; precision by (threshold, recall, class, area, detections)."""
    images, annotations, results = [], [], []
    for found, truth in pictures:
        image = len(images) + 1
        images.append({"id": image, "width": 500, "height": 500})
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
            {"image_id": image, "category_id": int(c), "bbox": xywh(b), "score": float(s)}
            for b, s, c in zip(found.boxes, found.scores, found.classes, strict=True)
        ]
    labels = sorted({a["category_id"] for a in annotations} | {r["category_id"] for r in results})
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": label, "name": str(label)} for label in labels],
        }
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), "bbox")
        run.params.areaRng = [list(area) for area in AREAS.values()]
        run.params.areaRngLbl = list(AREAS)
        run.params.maxDets = [DETECTIONS_MAX]
        run.evaluate()
        run.accumulate()
    return labels, run.eval["precision"][..., 0]


def ours(pictures, label, area, weights=None):
    parts = [match(found, truth, area) for found, truth in pictures]
    have = [k for k, part in enumerate(parts) if label in part]
    table = PrecisionTable([parts[k][label] for k in have], np.array(have))
    return table.precision(np.array([weights or [1] * len(parts)], dtype=float))[0]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_cocos_own_figure_for_every_class_threshold_and_size(seed):
    pictures = list(scenes(seed))
    labels, precision = reference(pictures)
    for position, label in enumerate(labels):
        for size, area in enumerate(AREAS.values()):
            expected = precision[:, :, position, size].mean(axis=1)
            expected = np.where(precision[:, 0, position, size] < 0, np.nan, expected)
            np.testing.assert_allclose(ours(pictures, label, area), expected, atol=1e-9)


def test_a_weight_is_as_good_as_that_many_copies_of_the_picture():
    pictures = list(scenes(7))
    weights = np.random.default_rng(0).integers(0, 3, len(pictures)).tolist()
    copies = [p for p, often in zip(pictures, weights, strict=True) for _ in range(often)]
    for label in range(3):
        # Copies of one picture tie, and a tie's order moves nothing once its sum is the same.
        np.testing.assert_allclose(
            ours(pictures, label, AREAS["all"], weights),
            ours(copies, label, AREAS["all"]),
            atol=0.02,
        )


def test_what_is_not_there_cannot_be_found():
    found = Found(np.array([[0, 0, 9.0, 9]]), np.array([0.9]), np.array([1]))
    nothing = Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0))
    parts = match(found, nothing)
    table = PrecisionTable([parts[1]], np.zeros(1, int))
    assert np.isnan(table.precision(np.ones((1, 1)))).all()
    assert len(IOU_THRESHOLDS) == len(parts[1].hits)
