"""The benchmark of tasks sees what is wrong, and its oracles are right."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from rapidfuzz.distance import Levenshtein

from benchmarks.task_checks.cases import Case, rounded
from benchmarks.task_checks.damage import Damage
from benchmarks.task_checks.judged import compared
from benchmarks.task_checks.oracles import edits, yolox_boxes
from benchmarks.tasks import held_against_oracles, planted
from calib.tasks.classification import ClassificationSpec
from data_loaders.types import Sample


@pytest.fixture
def case():
    """Sixty right answers of two classes, moved a little by the candidate."""
    rng = np.random.default_rng(0)
    labels = [index % 2 for index in range(60)]
    outputs = [np.eye(2)[label] + rng.normal(0, 0.05, 2) for label in labels]
    return Case(
        "drawn",
        ClassificationSpec(),
        ("no", "yes"),
        [Sample(f"{index:02d}", {}, label) for index, label in enumerate(labels)],
        [{"out": scores} for scores in outputs],
        [{"out": scores + rng.normal(0, 0.02, 2)} for scores in outputs],
    )


def turned(outputs):
    return {"out": outputs["out"][::-1]}


def test_damage_is_found_where_there_is_some(case):
    known = compared(case, case.candidate)
    assert known.own["accuracy_pct"] == 100
    _, problems = planted(case, Damage("turned", "drawn", turned), known)
    assert problems == []


def test_harmless_damage_and_a_class_that_stays_are_reported(case):
    known = compared(case, case.candidate)
    harmless = Damage("nothing", "drawn", lambda outputs: outputs, gone=("yes",))
    _, problems = planted(case, harmless, known)
    assert len(problems) == 3


def test_a_figure_that_is_not_the_oracles_shows(case):
    known = compared(case, case.candidate)
    assert max(gap for *_, gap in held_against_oracles(case, known)) < 1e-12
    known.own["accuracy_pct"] -= 1e-6
    assert max(gap for *_, gap in held_against_oracles(case, known)) > 1e-7


def test_the_table_of_distances_is_levenshteins():
    rng = np.random.default_rng(1)
    for _ in range(50):
        one, other = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        assert edits(one, other) == Levenshtein.distance(one, other)


def test_boxes_of_a_grid_are_yolox():
    grid = np.zeros((6, 2, 3))
    grid[:, 1, 2] = [0.5, 0.25, np.log(2), 0, 0.8, 0.5]
    grid[:, 0, 0] = [0, 0, 0, 0, 0.01, 0.01]
    boxes, scores = yolox_boxes({"stride_8": grid}, 0.45)
    np.testing.assert_allclose(boxes, [[12, 6, 28, 14]])
    np.testing.assert_allclose(scores, [0.4])


def test_weights_are_rounded_to_a_scale_for_each_channel_and_biases_are_not():
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(4, 3)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
        )
    )
    tables = {t.name: numpy_helper.to_array(t) for t in rounded(model).graph.initializer}
    np.testing.assert_array_equal(tables["b"], bias)
    steps = tables["w"] / (np.abs(weight).max(axis=0) / 127)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    assert 0 < np.abs(tables["w"] - weight).max() <= np.abs(weight).max() / 254 * 1.001
