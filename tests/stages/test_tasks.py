"""Kinds of tasks through the whole pipeline, on small nets whose own answers are the labels."""

import sys

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from calib.config import load_experiment
from calib.errors import ConfigError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.results import Verdict

SIDE = 16

LOADER = """
import numpy as np
from data_loaders.targets import *
from data_loaders.types import Sample
import task_labels

def samples(split, count=24):
    for index in range(count):
        rng = np.random.default_rng([index, split])
        x = rng.normal(size=(3, 16, 16)).astype("f4")
        heads = task_labels.heads(index, x) if hasattr(task_labels, "heads") else {}
        label = task_labels.label(index, x)
        yield Sample(f"{split}-{index}", {"x": x}, label, head_labels=heads)
"""


def model(nodes, outputs, constants, batch="N"):
    rng = np.random.default_rng(0)
    values = {
        name: rng.normal(size=value).astype("f4") if isinstance(value, tuple) else value
        for name, value in constants.items()
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=outputs[0] + "_node", **attributes)


def run(folder, monkeypatch, proto, task, label, limits, heads=None, **data):
    """A run of a net on noise; `label` is the source of a function of index and input."""
    onnx.save(proto, folder / "model.onnx")
    (folder / "task_loader.py").write_text(LOADER)
    (folder / "task_labels.py").write_text(label)
    monkeypatch.chdir(folder)
    for name in ("task_loader", "task_labels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    split = {"kind": "python", "entry": "task_loader:samples"}
    config = {
        "name": "small",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {
            "batch_size": 4,
            "calibration_samples_min": 1,
            **{
                name: {**split, "args": {"split": number}, **data}
                for number, name in enumerate(("calibration", "validation"))
            },
        },
        "task": task,
        "heads": heads or {},
        "calibration": {"calibrators": [{"kind": "minmax"}]},
        "quantization": {"min_channels": 1},
        "throughput": {"batch_sizes": []},
        "engines": {"fp16": False},
        "limits": limits,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return run_experiment(load_experiment(folder / "config.yaml"), Silent()).result


def fp32(folder):
    """Labels are made by the net itself, read by the loader's module."""
    return (
        "import numpy as np, onnxruntime as ort\n"
        "from data_loaders.targets import *\n"
        f"session = ort.InferenceSession({str(folder / 'model.onnx')!r})\n"
        "def outputs(x):\n"
        "    return session.run(None, {'x': x[None]})\n"
    )


def own(result, name):
    return next(m for m in result.candidate("int8-minmax").score.metrics if m.name == name)


def test_segmentation(tmp_path, monkeypatch):
    net = model(
        [node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]), node("Conv", ["h", "v"], ["out"])],
        [("out", TensorProto.FLOAT, ["N", 4, SIDE, SIDE])],
        {"w": (8, 3, 3, 3), "v": (4, 8, 1, 1)},
    )
    label = fp32(tmp_path) + "def label(index, x):\n    return outputs(x)[0][0].argmax(0)\n"
    result = run(
        tmp_path,
        monkeypatch,
        net,
        {"kind": "segmentation"},
        label,
        {"miou_drop_points_max": 30.0, "classes_vanished_max": 0, "worst_slice_loss_max": 60.0},
        classes=["a", "b", "c", "d"],
    )
    miou = own(result, "miou_pct")
    assert miou.reference == 100
    assert 80 < miou.value < 100
    assert result.verdict.verdict is Verdict.PASS
    assert "Mean IoU" in result.verdict.reason
    assert {c.name for c in result.candidate("int8-minmax").score.by_class} == set("abcd")
    # Nothing is right or wrong, and yet the slices are judged: by their own mean IoU.
    slices = [s for s in result.candidate("int8-minmax").slices if s.family == "brightness"]
    assert sum(s.figure.samples for s in slices) == 24
    assert {s.figure.name for s in slices} == {"miou_pct"}
    judged = next(c for c in result.verdict.candidates if c.candidate == "int8-minmax")
    rule = next(r for r in judged.rules if r.rule == "worst_slice_loss_max")
    assert rule.found == pytest.approx(100 - miou.value, abs=5)
    assert rule.details.startswith("brightness ")


BOXES = """
def label(index, x):
    table = outputs(x)[0].reshape(7, -1)
    keep = table[4:].max(0) > 0.6
    cx, cy, w, h = table[:4, keep]
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1).clip(0, 16)
    sides, none = boxes[:, 2:] - boxes[:, :2], np.zeros(keep.sum(), bool)
    return ObjectsTarget(boxes, table[4:, keep].argmax(0), none, np.prod(sides, 1))
"""


def detector():
    """A grid of 16 cells: their centres and a size that the net tells, and three scores."""
    column, row = np.meshgrid(np.arange(4), np.arange(4))
    centre = (np.stack([column, row]).reshape(1, 2, 16) * 4 + 2).astype("f4")
    return model(
        [
            node("Conv", ["x", "w"], ["h"], strides=[4, 4]),
            node("Sigmoid", ["h"], ["s"]),
            node("Reshape", ["s", "flat"], ["rows"]),
            node("Split", ["rows", "parts"], ["shift", "size", "scores"], axis=1),
            node("Add", ["shift", "centre"], ["xy"]),
            node("Mul", ["size", "six"], ["sizes"]),
            node("Add", ["sizes", "three"], ["wh"]),
            node("Concat", ["xy", "wh", "scores"], ["out"], axis=1),
        ],
        [("out", TensorProto.FLOAT, ["N", 7, 16])],
        {
            "w": (7, 3, 4, 4),
            "flat": np.array([0, 7, 16]),
            "parts": np.array([2, 2, 3]),
            "centre": centre,
            "six": np.array(6, "f4"),
            "three": np.array(3, "f4"),
        },
    )


DETECTION = {
    "kind": "detection",
    "columns": ["cx", "cy", "w", "h", "scores"],
    "columns_axis": "first",
    "shown_score_min": 0.6,
}


def test_detection_by_a_raw_head(tmp_path, monkeypatch):
    result = run(
        tmp_path,
        monkeypatch,
        detector(),
        DETECTION,
        fp32(tmp_path) + BOXES,
        {"map_drop_points_max": 60.0},
        classes=["cat", "dog", "cow"],
    )
    precision = own(result, "map_pct")
    assert precision.reference == pytest.approx(100)
    assert 50 < precision.value <= 100
    assert result.verdict.verdict is Verdict.PASS
    tail = result.candidate("int8-minmax").tail
    assert "cat" in tail[0].label
    assert tail[0].margin_loss >= tail[-1].margin_loss


def test_detection_with_nms_inside_finds_another_number_of_boxes_in_each(tmp_path, monkeypatch):
    inner = detector()
    graph = inner.graph
    del graph.output[:]
    constants = {
        "most": np.array([9]),
        "overlap": np.array([0.5], "f4"),
        "least": np.array([0.6], "f4"),
        "last": np.array([2]),
        "first": np.array([0]),
        "middle": np.array([1]),
        "no_batch": np.array([0]),
        "half": np.array([0.5], "f4"),
    }
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    graph.node.extend(
        [
            node("Concat", ["xy", "wh"], ["boxes"], axis=1),
            node("Transpose", ["boxes"], ["boxes_last"], perm=[0, 2, 1]),
            node(
                "NonMaxSuppression",
                ["boxes_last", "scores", "most", "overlap", "least"],
                ["chosen"],
                center_point_box=1,
            ),
            node("Gather", ["chosen", "last"], ["place"], axis=1),
            node("Gather", ["chosen", "middle"], ["label"], axis=1),
            node("Squeeze", ["boxes_last", "no_batch"], ["one"]),
            node("Squeeze", ["place", "middle"], ["index"]),
            node("Gather", ["one", "index"], ["found"], axis=0),
            node("GatherND", ["scores", "pick"], ["score"]),
            node("Concat", ["chosen_batch", "label", "place"], ["pick"], axis=1),
            node("Gather", ["chosen", "first"], ["chosen_batch"], axis=1),
        ]
    )
    order = {n.output[0]: n for n in graph.node}
    names = [
        n.output[0] for n in graph.node if n.output[0] not in ("score", "pick", "chosen_batch")
    ]
    nodes = [order[n] for n in (*names, "chosen_batch", "pick", "score")]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.output.extend(
        [
            helper.make_tensor_value_info("found", TensorProto.FLOAT, ["k", 4]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["k"]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["k", 1]),
        ]
    )
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(inner, full_check=True)
    labels = (
        "def label(index, x):\n"
        "    box, score, kind = outputs(x)\n"
        "    cx, cy, w, h = box.T\n"
        "    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1).clip(0, 16)\n"
        "    none, sides = np.zeros(len(box), bool), boxes[:, 2:] - boxes[:, :2]\n"
        "    return ObjectsTarget(boxes, kind.ravel(), none, np.prod(sides, 1))\n"
    )
    result = run(
        tmp_path,
        monkeypatch,
        inner,
        {
            "kind": "detection",
            "output": "found",
            "scores": "score",
            "labels": "label",
            "columns": ["cx", "cy", "w", "h"],
            "shown_score_min": 0.6,
        },
        fp32(tmp_path) + labels,
        {"map_drop_points_max": 80.0},
    )
    assert own(result, "map_pct").reference == pytest.approx(100)
    assert own(result, "map_pct").value > 40
    assert any("not as many values as in FP32" in note for note in result.notes)


@pytest.mark.parametrize("time_major", [False, True])
def test_text_recognition(tmp_path, monkeypatch, time_major):
    perm, shape = ([2, 0, 1], [SIDE, "N", 5]) if time_major else ([0, 2, 1], ["N", SIDE, 5])
    net = model(
        [
            node("Conv", ["x", "w"], ["h"]),
            node("Squeeze", ["h", "axis"], ["flat"]),
            node("Transpose", ["flat"], ["out"], perm=perm),
        ],
        [("out", TensorProto.FLOAT, shape)],
        {"w": (5, 3, SIDE, 1), "axis": np.array([2])},
    )
    label = fp32(tmp_path) + (
        "def label(index, x):\n"
        "    best = outputs(x)[0].reshape(16, 5).argmax(1)\n"
        "    first = np.append(True, best[1:] != best[:-1])\n"
        "    return ''.join(' abc'[k - 1] for k in best[first] if k)\n"
    )
    result = run(
        tmp_path,
        monkeypatch,
        net,
        {"kind": "text_recognition", "characters": " abc"},
        label,
        {"cer_rise_points_max": 20.0},
    )
    assert own(result, "cer_pct").reference == 0
    assert 0 <= own(result, "cer_pct").value < 20


def test_question_answering_reads_two_outputs(tmp_path, monkeypatch):
    net = model(
        [
            node("Conv", ["x", "w"], ["h"]),
            node("Squeeze", ["h", "axis"], ["flat"]),
            node("Split", ["flat", "parts"], ["a", "b"], axis=1),
            node("Squeeze", ["a", "one"], ["start_logits"]),
            node("Squeeze", ["b", "one"], ["end_logits"]),
        ],
        [(n, TensorProto.FLOAT, ["N", SIDE]) for n in ("start_logits", "end_logits")],
        {
            "w": (2, 3, SIDE, 1),
            "axis": np.array([2]),
            "parts": np.array([1, 1]),
            "one": np.array([1]),
        },
    )
    label = (
        "import numpy as np\nfrom data_loaders.targets import *\n"
        "def label(index, x):\n"
        "    context = 'abcdefghijklmnop'\n"
        "    offsets = np.stack([np.arange(16), np.arange(1, 17)], 1)\n"
        "    return AnswersTarget(context, (context[index % 16],), offsets)\n"
    )
    result = run(
        tmp_path,
        monkeypatch,
        net,
        {"kind": "question_answering"},
        label,
        {"disagreement_points_max": 50.0},
    )
    score = result.candidate("int8-minmax").score
    assert [m.name for m in score.metrics] == ["answer_f1_pct", "exact_match_pct"]
    assert score.agreement[0].value > 50


@pytest.mark.parametrize("kind", ["retrieval", "similarity"])
def test_vectors_are_judged_after_all_were_seen(tmp_path, monkeypatch, kind):
    net = model(
        [
            node("Conv", ["x", "w"], ["h"]),
            node("Flatten", ["h"], ["flat"]),
            node("Tanh", ["flat"], ["out"]),
        ],
        [("out", TensorProto.FLOAT, ["N", 8])],
        {"w": (8, 3, SIDE, SIDE)},
    )
    label = "from data_loaders.targets import *\ndef label(index, x):\n" + (
        "    if index < 12:\n        return RelevanceTarget(key=f'd{index}')\n"
        "    return RelevanceTarget(grades={f'd{index - 12}': 1})\n"
        if kind == "retrieval"
        else "    return PairTarget(f'p{index // 2}', float(index // 2 % 5))\n"
    )
    result = run(
        tmp_path,
        monkeypatch,
        net,
        {"kind": kind},
        label,
        {"recall_drop_points_max": 50.0}
        if kind == "retrieval"
        else {"spearman_drop_points_max": 90.0},
    )
    score = result.candidate("int8-minmax").score
    assert score.samples == 12
    assert score.metrics[0].reference is not None
    assert result.verdict.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE)


def test_a_metric_of_ones_own(tmp_path, monkeypatch):
    net = model(
        [node("Conv", ["x", "w"], ["h"]), node("Flatten", ["h"], ["out"])],
        [("out", TensorProto.FLOAT, ["N", 4])],
        {"w": (4, 3, SIDE, SIDE)},
    )
    (tmp_path / "own_task_metric.py").write_text(
        "class Share:\n"
        "    def sample(self, outputs, label):\n"
        "        hit = float(outputs['out'].argmax() == label)\n"
        "        return hit, [hit, 1]\n"
        "    def total(self, sums):\n"
        "        return 100 * sums[0] / sums[1]\n"
    )
    label = fp32(tmp_path) + "def label(index, x):\n    return int(outputs(x)[0].argmax())\n"
    task = {"kind": "python", "entry": "own_task_metric:Share", "unit": "%"}
    result = run(tmp_path, monkeypatch, net, task, label, {"own_metric_loss_max": 40.0})
    assert own(result, "value").reference == 100
    assert result.verdict.verdict is Verdict.PASS


def test_an_output_that_is_not_there_is_named_with_its_setting(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"task\.scores"):
        run(
            tmp_path,
            monkeypatch,
            detector(),
            {"kind": "detection", "scores": "nowhere"},
            fp32(tmp_path) + BOXES,
            {},
        )


def two_heads():
    return model(
        [
            node("Conv", ["x", "w"], ["h"]),
            node("Flatten", ["h"], ["both"]),
            node("Split", ["both", "parts"], ["animal", "size"], axis=1),
        ],
        [("animal", TensorProto.FLOAT, ["N", 3]), ("size", TensorProto.FLOAT, ["N", 1])],
        {"w": (4, 3, SIDE, SIDE), "parts": np.array([3, 1])},
    )


HEADS = """
def label(index, x):
    return int(outputs(x)[0].argmax())

def heads(index, x):
    return {"size": float(outputs(x)[1].ravel()[0])}
"""


def test_a_further_head_has_its_own_kind_its_labels_and_its_limits(tmp_path, monkeypatch):
    limits = {
        "accuracy_drop_points_max": 60.0,
        "heads": {"size": {"r2_drop_max": 0.5}},
    }
    result = run(
        tmp_path,
        monkeypatch,
        two_heads(),
        {"kind": "classification", "output": "animal"},
        fp32(tmp_path) + HEADS,
        limits,
        heads={"size": {"kind": "regression", "output": "size"}},
    )
    candidate = result.candidate("int8-minmax")
    (head,) = candidate.heads
    metrics = {m.name: m for m in head.score.metrics}
    assert metrics["r2"].reference == pytest.approx(1, abs=1e-6)
    assert 0.5 < metrics["r2"].value < 1
    judged = next(c for c in result.verdict.candidates if c.candidate == "int8-minmax")
    rules = {r.rule: r for r in judged.rules}
    assert rules["size.r2_drop_max"].found == pytest.approx(1 - metrics["r2"].value, abs=1e-6)
    assert rules["size.r2_drop_max"].title.startswith("size: ")


def test_a_limit_of_a_head_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no such head"):
        run(
            tmp_path,
            monkeypatch,
            two_heads(),
            {"kind": "classification", "output": "animal"},
            fp32(tmp_path) + HEADS,
            {"heads": {"size": {"r2_drop_max": 0.5}}},
        )
