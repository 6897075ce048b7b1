"""The same figures by other people's code, or by plain code that shares nothing with calib's."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pytrec_eval import RelevanceEvaluator
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
)

from benchmarks.task_checks.cases import Case, Outputs

Figures = dict[str, float]

_COCO_NAMES = ("map_pct", "ap50_pct", "ap75_pct")
_COCO_SIZES = ("map_small_pct", "map_medium_pct", "map_large_pct")
_TOP = 10


def classification(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By scikit-learn."""
    said = _first(outputs).argmax(axis=1)
    truth = [sample.label for sample in case.samples]
    return {
        "scikit-learn": {
            "accuracy_pct": 100 * accuracy_score(truth, said),
            "macro_recall_pct": 100 * balanced_accuracy_score(truth, said),
        }
    }


def multi_label(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By scikit-learn."""
    scores = _first(outputs).astype(np.float64)
    truth = np.stack([sample.label for sample in case.samples])
    said = scores > case.spec.threshold  # type: ignore[attr-defined]
    return {
        "scikit-learn": {
            "micro_f1_pct": 100 * f1_score(truth, said, average="micro"),
            "macro_f1_pct": 100 * f1_score(truth, said, average="macro"),
            "label_map_pct": 100 * average_precision_score(truth, scores, average="macro"),
        }
    }


def segmentation(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By scikit-learn, over all pixels in one list."""
    said = (_first(outputs)[:, 0] > case.spec.threshold).ravel()  # type: ignore[attr-defined]
    truth = np.stack([sample.label for sample in case.samples]).ravel() == 1
    return {
        "scikit-learn": {
            "miou_pct": 100 * jaccard_score(truth, said, average="macro"),
            "dice_pct": 100 * f1_score(truth, said, average="macro"),
            "pixel_accuracy_pct": 100 * accuracy_score(truth, said),
        }
    }


def text_recognition(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By the textbook's table of distances, and jiwer where it is installed."""
    letters = " " + case.spec.characters  # type: ignore[attr-defined]
    said = [
        "".join(letters[k] for k, _ in groupby(scores.argmax(axis=1)) if k)
        for scores in _first(outputs)
    ]
    truth = [str(sample.label) for sample in case.samples]
    pairs = list(zip(said, truth, strict=True))
    words = [(one.split(), other.split()) for one, other in pairs]
    figures = {
        "plain": {
            "cer_pct": 100 * sum(edits(*p) for p in pairs) / sum(map(len, truth)),
            "wer_pct": 100 * sum(edits(*p) for p in words) / sum(len(t) for _, t in words),
            "lines_right_pct": 100 * float(np.mean([one == other for one, other in pairs])),
        }
    }
    try:
        import jiwer
    except ImportError:
        return figures
    rates = {"cer_pct": 100 * jiwer.cer(truth, said), "wer_pct": 100 * jiwer.wer(truth, said)}
    return figures | {"jiwer": rates}


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein's distance, by its whole table (R. Wagner, M. Fischer, JACM 1974)."""
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=np.int64)
    table[:, 0], table[0] = np.arange(len(one) + 1), np.arange(len(other) + 1)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            steps = table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b)
            table[i, j] = min(steps)
    return int(table[-1, -1])


def retrieval(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By trec_eval's own C code."""
    vectors = {
        s.id: o["embedding"].astype(float) for s, o in zip(case.samples, outputs, strict=True)
    }
    documents = {n.removeprefix("document "): v for n, v in vectors.items() if n[0] == "d"}
    table = np.stack(list(documents.values()))
    run, wanted = {}, {}
    for sample in case.samples:
        if sample.id.startswith("query"):
            scores = dict(zip(documents, (table @ vectors[sample.id]).tolist(), strict=True))
            best = sorted(scores, key=lambda name: -scores[name])[:_TOP]
            run[sample.id] = {name: scores[name] for name in best}
            wanted[sample.id] = dict(sample.label.grades)  # type: ignore[union-attr]
    judge = RelevanceEvaluator(wanted, {f"recall.{_TOP}", f"ndcg_cut.{_TOP}", "recip_rank"})
    found = list(judge.evaluate(run).values())
    names = {
        "recall_pct": f"recall_{_TOP}",
        "ndcg_pct": f"ndcg_cut_{_TOP}",
        "mrr_pct": "recip_rank",
    }
    return {
        "trec_eval": {
            ours: 100 * float(np.mean([query[theirs] for query in found]))
            for ours, theirs in names.items()
        }
    }


def similarity(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By scipy, of cosines taken in double precision."""
    vectors = [o["embedding"].astype(float) for o in outputs]
    unit = np.stack([v / np.linalg.norm(v) for v in vectors])
    cosines = (unit[::2] * unit[1::2]).sum(axis=1)
    judged = [sample.label.likeness for sample in case.samples[::2]]  # type: ignore[union-attr]
    return {
        "scipy": {
            "spearman_pct": 100 * spearmanr(cosines, judged).statistic,
            "pearson_pct": 100 * pearsonr(cosines, judged).statistic,
        }
    }


def detection(case: Case, outputs: Sequence[Outputs]) -> dict[str, Figures]:
    """By pycocotools (and faster-coco-eval where installed), of boxes decoded as YOLOX does."""
    dataset, results = _as_coco(case, outputs)
    judges = {"pycocotools": (COCO, COCOeval)}
    with suppress(ImportError):
        import faster_coco_eval

        faster = faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
        judges["faster-coco-eval"] = faster
    figures = {}
    for name, (load, run) in judges.items():
        with redirect_stdout(io.StringIO()):
            truth = load()
            truth.dataset = dataset
            truth.createIndex()
            judge = run(truth, truth.loadRes([dict(r) for r in results]), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        stats = [100 * value if value >= 0 else np.nan for value in judge.stats[:6]]
        figures[name] = dict(zip(_COCO_NAMES + _COCO_SIZES, map(float, stats), strict=True))
    return figures


def _as_coco(
    case: Case, outputs: Sequence[Outputs]
) -> tuple[dict[str, object], list[dict[str, object]]]:
    images, annotations, results = [], [], []
    for number, (sample, said) in enumerate(zip(case.samples, outputs, strict=True), 1):
        frame, target = sample.frame, sample.label
        images.append({"id": number, "width": frame.width, "height": frame.height})  # type: ignore[union-attr]
        for box, area in zip(target.boxes, target.areas, strict=True):  # type: ignore[union-attr]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": _sides(box),
                    "area": float(area),
                    "iscrowd": 0,
                }
            )
        boxes, scores = yolox_boxes(said, case.spec.nms_overlap_max)  # type: ignore[attr-defined]
        boxes /= [frame.scale_x, frame.scale_y] * 2  # type: ignore[union-attr]
        boxes = boxes.clip(0, [frame.width, frame.height] * 2)  # type: ignore[union-attr]
        results += [
            {"image_id": number, "category_id": 1, "bbox": _sides(b), "score": float(s)}
            for b, s in zip(boxes[:100], scores[:100], strict=True)
        ]
    names = [{"id": 1, "name": "character"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": names}, results


def _sides(box: NDArray[np.float64]) -> list[float]:
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def yolox_boxes(
    outputs: Outputs, overlap_max: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes as corners and their scores, the best first, cell by cell and pair by pair."""
    rows = []
    for name, grid in outputs.items():
        stride = int(name.removeprefix("stride_"))
        _, height, width = grid.shape
        for y in range(height):
            for x in range(width):
                cx, cy, w, h, objectness, score = grid[:, y, x].astype(float)
                if objectness * score >= 0.001:
                    half_w, half_h = np.exp(w) * stride / 2, np.exp(h) * stride / 2
                    mid_x, mid_y = (cx + x) * stride, (cy + y) * stride
                    box = mid_x - half_w, mid_y - half_h, mid_x + half_w, mid_y + half_h
                    rows.append((*box, objectness * score))
    rows.sort(key=lambda row: -row[4])
    kept: list[tuple[float, ...]] = []
    for row in rows:
        if all(_overlap(row, other) <= overlap_max for other in kept):
            kept.append(row)
    table = np.array(kept, dtype=np.float64).reshape(-1, 5)
    return table[:, :4], table[:, 4]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def _first(outputs: Sequence[Outputs]) -> NDArray[np.generic]:
    return np.stack([next(iter(said.values())) for said in outputs])


ORACLES: dict[str, Callable[[Case, Sequence[Outputs]], dict[str, Figures]]] = {
    function.__name__: function
    for function in (
        classification,
        multi_label,
        segmentation,
        text_recognition,
        retrieval,
        similarity,
        detection,
    )
}
"""By kind of task: each oracle's figures by its name."""
