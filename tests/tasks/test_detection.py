import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import logit

from calib.errors import DataError
from calib.tasks import kind_from_spec
from calib.tasks.detection_spec import DetectionSpec
from data_loaders.targets import Frame, ObjectsTarget
from data_loaders.types import Sample

CORNERS = np.array([[10.0, 20, 50, 60], [100, 30, 160, 90], [5, 5, 25, 45]])
SCORES = np.array([0.9, 0.8, 0.7])
CLASSES = np.array([2, 0, 1])
PICTURE = {"image": np.zeros((3, 128, 192), dtype=np.float32)}
CENTRES = np.hstack([(CORNERS[:, :2] + CORNERS[:, 2:]) / 2, CORNERS[:, 2:] - CORNERS[:, :2]])


def sample(label=None, frame=None):
    return Sample("s1", PICTURE, label, frame=frame)


def target(boxes=CORNERS, classes=CLASSES, crowd=None):
    sides = boxes[:, 2:] - boxes[:, :2]
    there = np.zeros(len(boxes), dtype=bool) if crowd is None else crowd
    return ObjectsTarget(boxes, classes, there, np.prod(sides, axis=1))


def by_class(scores=SCORES, classes=CLASSES, many=3):
    table = np.full((len(scores), many), 0.01)
    table[np.arange(len(scores)), classes] = scores
    return table


def decoded(spec, outputs, frame=None):
    kind = kind_from_spec(DetectionSpec(**spec), list(outputs))
    return kind.answer(outputs, sample(frame=frame)).found


FORMS = {
    "one table with the class in it": (
        {"columns": ["x1", "y1", "x2", "y2", "score", "class"]},
        {"out": np.hstack([CORNERS, SCORES[:, None], CLASSES[:, None]])},
    ),
    "with the picture's number in front": (
        {"columns": ["batch", "x1", "y1", "x2", "y2", "class", "score"]},
        {"out": np.hstack([0 * SCORES[:, None], CORNERS, CLASSES[:, None], SCORES[:, None]])},
    ),
    "anchor-free, channels first": (
        {"columns": ["cx", "cy", "w", "h", "scores"], "columns_axis": "first"},
        {"out": np.hstack([CENTRES, by_class()]).T},
    ),
    "with objectness": (
        {"columns": ["cx", "cy", "w", "h", "objectness", "scores"]},
        {"out": np.hstack([CENTRES, np.full((3, 1), 0.5), by_class(2 * SCORES)])},
    ),
    "three outputs, as nets with NMS inside have": (
        {"output": "boxes", "scores": "scores", "labels": "labels", "count": "count"},
        {
            "boxes": np.vstack([CORNERS, np.zeros((2, 4))]),
            "scores": np.append(SCORES, [0.5, 0.5]),
            "labels": np.append(CLASSES, [1, 1]).astype(np.float32),
            "count": np.array([3]),
        },
    ),
    "rows first, in parts of the sides, classes from 1": (
        {
            "output": "boxes",
            "scores": "scores",
            "labels": "labels",
            "columns": ["y1", "x1", "y2", "x2"],
            "normalized": True,
            "first_class": 1,
        },
        {
            "boxes": CORNERS[:, [1, 0, 3, 2]] / [128, 192, 128, 192],
            "scores": SCORES,
            "labels": CLASSES + 1,
        },
    ),
    "logits with no object last, as in DETR": (
        {
            "output": "boxes",
            "scores": "logits",
            "columns": ["cx", "cy", "w", "h"],
            "normalized": True,
            "activation": "softmax",
            "background": "last",
        },
        {
            "boxes": CENTRES / [192, 128, 192, 128],
            "logits": np.log(
                np.hstack(
                    [
                        np.where(by_class() > 0.1, by_class(), (1 - SCORES[:, None]) / 3),
                        (1 - SCORES[:, None]) / 3,
                    ]
                )
            ),
        },
    ),
    "sigmoid scores": (
        {"columns": ["x", "y", "w", "h", "scores"], "activation": "sigmoid"},
        {"out": np.hstack([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2], logit(by_class())])},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_boxes_come_out_of_every_form(name):
    spec, outputs = FORMS[name]
    found = decoded(spec, outputs)
    np.testing.assert_allclose(found.boxes, CORNERS, atol=1e-9)
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-9)
    assert found.classes.tolist() == CLASSES.tolist()


def grids(form, strides, sizes):
    """Raw grids that hold CORNERS, encoded by the inverse of each form."""
    made = []
    for index, stride in enumerate(strides):
        many = len(sizes[index]) if sizes else 1
        grid = np.full((many, 128 // stride, 192 // stride, 8), -12.0)
        grid[..., :4] = 0
        if index == 0:
            for (cx, cy, w, h), score, label in zip(CENTRES, SCORES, CLASSES, strict=True):
                column, row = int(cx // stride), int(cy // stride)
                offset = np.array([cx, cy]) / stride - [column, row]
                side = np.array([w, h])
                if form == "yolov5":
                    xy = logit((offset + 0.5) / 2)
                    wh = logit(np.sqrt(side / sizes[0][0]) / 2)
                elif form == "yolov3":
                    xy, wh = logit(np.maximum(offset, 1e-9)), np.log(side / sizes[0][0])
                else:
                    xy, wh = offset, np.log(side / stride)
                cell = grid[0, row, column]
                cell[:2], cell[2:4], cell[4], cell[5 + label] = xy, wh, 40.0, logit(score)
        made.append(grid)
    return made


@pytest.mark.parametrize("form", ["yolov3", "yolov5", "yolox"])
@pytest.mark.parametrize("axes", ["anchors apart", "channels first", "channels last"])
def test_grids_are_decoded_as_their_nets_do(form, axes):
    sizes = [] if form == "yolox" else [[[60.0, 60]], [[90.0, 90]]]
    raw = grids(form, [8, 16], sizes)
    if axes != "anchors apart":
        raw = [g.transpose(0, 3, 1, 2).reshape(-1, *g.shape[1:3]) for g in raw]
    if axes == "channels last":
        raw = [g.transpose(1, 2, 0) for g in raw]
    spec = {
        "grids": ["a", "b"],
        "columns": ["cx", "cy", "w", "h", "objectness", "scores"],
        "columns_axis": "first" if axes == "channels first" else "last",
        "activation": "sigmoid",
        "anchors": {"form": form, "strides": [8, 16], "sizes": sizes},
    }
    found = decoded(spec, dict(zip("ab", raw, strict=True)))
    np.testing.assert_allclose(found.boxes, CORNERS, atol=1e-5)
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-6)


@pytest.mark.parametrize("form", ["yolov5", "yolox"])
@pytest.mark.parametrize("axis", ["first", "last"])
def test_joined_grids_are_those_of_their_strides(form, axis):
    sizes = [] if form == "yolox" else [[[60.0, 60], [9.0, 9]], [[90.0, 90], [99.0, 99]]]
    raw = grids(form, [8, 16], sizes)
    rows = np.concatenate([grid.reshape(-1, 8) for grid in raw])
    spec = {
        "grids": ["out"],
        "columns": ["cx", "cy", "w", "h", "objectness", "scores"],
        "columns_axis": axis,
        "activation": "sigmoid",
        "anchors": {"form": form, "strides": [8, 16], "sizes": sizes},
    }
    found = decoded(spec, {"out": rows.T if axis == "first" else rows})
    np.testing.assert_allclose(found.boxes, CORNERS, atol=1e-5)
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-6)
    with pytest.raises(DataError, match="does not hold the cells of all strides"):
        decoded(spec | {"columns_axis": "last"}, {"out": rows[:-1]})


def test_boxes_go_back_to_the_picture_that_was_letterboxed():
    frame = Frame(height=200, width=400, scale_x=0.48, scale_y=0.48, left=0, top=16)
    in_picture = np.array([[20.0, 40, 120, 160]])
    in_input = in_picture * 0.48 + [0, 16, 0, 16]
    spec = {"columns": ["x1", "y1", "x2", "y2", "score", "class"]}
    found = decoded(spec, {"out": np.array([[*in_input[0], 0.9, 0]])}, frame)
    np.testing.assert_allclose(found.boxes, in_picture)


def test_what_is_no_number_is_no_box():
    spec = {"columns": ["x1", "y1", "x2", "y2", "scores"]}
    rows = np.hstack([CORNERS, by_class()])
    rows[0, 4:], rows[1, 0] = np.nan, np.inf
    assert decoded(spec, {"out": rows}).scores.tolist() == [0.7]


def test_nothing_found_is_an_answer():
    spec = {"output": "b", "scores": "s", "labels": "l"}
    nothing = {"b": np.zeros((0, 4)), "s": np.zeros(0), "l": np.zeros(0, dtype=int)}
    assert len(decoded(spec, nothing).boxes) == 0


def test_a_hook_decodes_in_place_of_the_settings(tmp_path, monkeypatch):
    (tmp_path / "own_decoder.py").write_text(
        "def decode(outputs):\n    t = outputs['out']\n    return t[:, :4], t[:, 4], t[:, 5]\n"
    )
    monkeypatch.chdir(tmp_path)
    rows = np.hstack([CORNERS, SCORES[:, None], CLASSES[:, None]])
    found = decoded({"entry": "own_decoder:decode"}, {"out": rows})
    np.testing.assert_allclose(found.boxes, CORNERS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ["x1", "y1", "w", "h", "score"]}, "no box"),
        ({"columns": ["x1", "y1", "x2", "y2"]}, "where are the scores"),
        ({"columns": ["scores", "x1", "y1", "x2", "y2"]}, "come last"),
        ({"columns": ["x1", "y1", "x2", "y2", "score"], "grids": ["a"]}, "go together"),
    ],
)
def test_settings_that_tell_no_boxes_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        DetectionSpec(**settings)


def test_an_output_of_other_columns_is_refused_by_name():
    spec = {"columns": ["x1", "y1", "x2", "y2", "score", "class"]}
    with pytest.raises(DataError, match="other columns"):
        decoded(spec, {"out": np.zeros((4, 7))})


@pytest.fixture
def kind():
    spec = DetectionSpec(columns=["x1", "y1", "x2", "y2", "score", "class"])
    return kind_from_spec(spec, ["out"], ["cat", "dog", "cow"])


def rows(boxes=CORNERS, scores=SCORES, classes=CLASSES):
    return {"out": np.hstack([boxes, scores[:, None], classes[:, None]])}


def compare(kind, outputs, label):
    asked = sample(label)
    return kind.compare(kind.answer(outputs, asked), kind.target(asked))


def test_a_perfect_picture_scores_100_and_is_right(kind):
    found = compare(kind, rows(), target())
    assert (found.score, found.is_right) == (100.0, True)
    total = kind.summarise([found.statistics])
    assert total["map_pct"] == pytest.approx(100)
    assert total["boxes_lost_pct"] == 0
    assert total["matched_iou_pct"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("outputs", "metric", "value"),
    [
        (rows(scores=SCORES * 0), "boxes_lost_pct", 100),
        (rows(boxes=CORNERS + 100), "boxes_invented_per_picture", 3),
        (rows(classes=np.array([2, 0, 0])), "boxes_lost_pct", 100 / 3),
        (
            rows(boxes=CORNERS + np.array([0, 0, 10, 0])),
            "matched_iou_pct",
            100 * (4 / 5 + 6 / 7 + 2 / 3) / 3,
        ),
        (rows(scores=SCORES - 0.2), "matched_score_pct", 60),
    ],
)
def test_damage_of_boxes_and_of_scores_is_told_apart(kind, outputs, metric, value):
    found = compare(kind, outputs, target())
    total = kind.summarise([found.statistics])
    assert total[metric] == pytest.approx(value)


def test_a_box_in_a_crowd_is_not_invented(kind):
    crowd = target(
        np.vstack([CORNERS, [[0, 0, 190, 120]]]), np.append(CLASSES, 1), np.eye(4)[3] > 0
    )
    inside = rows(
        np.vstack([CORNERS, [[120, 70, 140, 90]]]), np.append(SCORES, 0.9), np.append(CLASSES, 1)
    )
    assert compare(kind, inside, crowd).is_right is True


def test_fp32s_own_boxes_stand_in_for_labels(kind):
    first, second = (kind.answer(o, sample()) for o in (rows(), rows(scores=SCORES - 0.05)))
    assert kind.target(sample()) is None
    assert kind.is_same(first, second)
    assert not kind.is_same(first, kind.answer(rows(classes=np.array([2, 0, 0])), sample()))
    assert kind.words(first) == "1 cat, 1 dog, 1 cow"
