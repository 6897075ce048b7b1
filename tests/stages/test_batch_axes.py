"""Where the batch is: told by names, found by running, or said by the config."""

import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from calib.cli import main
from calib.config import load_experiment
from calib.errors import BackendError, ConfigError, DataError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.results import ModelRecord, TensorSpec
from calib.stages.batch_axes import input_axes, output_axes
from data_loaders import Sample, batches, scan, stack

FLOAT = TensorProto.FLOAT
QUICK = ("throughput.batch_sizes=[]", "analysis.layer_samples=8")


def exit_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["calib", "run", "config.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def specs(shapes):
    return tuple(TensorSpec(name=n, dtype="float32", shape=tuple(s)) for n, s in shapes.items())


def scanned(shapes):
    """A split of two samples, of lengths 5 and 7 where a size is None."""
    samples = [
        Sample(
            str(length),
            {
                name: np.zeros([length if size is None else size for size in shape], np.float32)
                for name, shape in shapes.items()
            },
        )
        for length in (5, 7)
    ]
    return scan(samples, "data")


@pytest.mark.parametrize(
    ("model", "samples", "axes", "size"),
    [
        ({"x": ["batch", "length"]}, {"x": [None]}, {"x": 0}, None),
        ({"x": ["?", "?"]}, {"x": [None]}, {"x": 0}, None),
        ({"x": ["length", "N", 8]}, {"x": [None, 8]}, {"x": 1}, None),
        ({"x": ["?", 3, 4, 4]}, {"x": [3, 4, 4]}, {"x": 0}, None),
        (
            {"x": ["k", "t"], "state": [2, "k", 16], "rate": []},
            {"x": [None], "state": [2, 16], "rate": []},
            {"x": 0, "state": 1, "rate": None},
            None,
        ),
        (
            {"x": ["steps", 9], "h": [1, 1, 16], "rate": [1]},
            {"x": [9], "h": [1, 1, 16], "rate": []},
            {"x": 0, "h": None, "rate": None},
            None,
        ),
        ({"x": [1, 3, 4, 4]}, {"x": [3, 4, 4]}, {"x": 0}, 1),
        ({"x": [1, "length", 8]}, {"x": [None, 8]}, {"x": 0}, 1),
        (
            {"x": [1, 9], "state": [2, 1, 16]},
            {"x": [9], "state": [2, 16]},
            {"x": 0, "state": 1},
            1,
        ),
        ({"x": [4, 9]}, {"x": [9]}, {"x": 0}, 4),
    ],
)
def test_the_batch_of_inputs_is_told_by_shapes_and_names(model, samples, axes, size):
    found = input_axes(specs(model), (scanned(samples),), {})
    assert (found.inputs, found.size) == (axes, size)


def test_the_config_has_the_last_word_and_an_axis_that_is_not_there_is_refused():
    model, split = specs({"x": ["u", "v", 8]}), scanned({"x": [None, 8]})
    assert input_axes(model, (split,), {}).inputs == {"x": 0}
    assert input_axes(model, (split,), {"x": 1}).inputs == {"x": 1}
    assert input_axes(model, (split,), {"x": -2}).inputs == {"x": 1}
    with pytest.raises(ConfigError, match=r"batch_axes.x: is no axis.*got 3; expected 0 to 2"):
        input_axes(model, (split,), {"x": 3})


def found_outputs(outputs, run, *, inputs=None, given=None):
    inputs = inputs or {"x": ["batch", 4]}
    record = ModelRecord(
        path="m.onnx",
        sha256="",
        size_bytes=0,
        opset=17,
        ir_version=8,
        producer="",
        parameters=0,
        inputs=specs(inputs),
        outputs=specs(outputs),
    )
    axes = input_axes(record.inputs, (scanned({"x": [4]}),), {})
    sample = Sample("a", {"x": np.zeros(4, np.float32)})
    found = output_axes(record, axes, given or {}, lambda n: stack([sample] * n, {}), run)
    return found.outputs, found.size


def test_the_batch_of_outputs_is_told_by_names_without_a_run():
    def no_run(_):
        raise AssertionError("the names tell")

    outputs = {"y": ["T", "batch", 3], "h": [2, "batch", 3], "z": ["batch"]}
    assert found_outputs(outputs, no_run)[0] == {"y": 1, "h": 1, "z": 0}


def test_where_names_do_not_tell_one_sample_and_two_do():
    def run(batch):
        n = len(batch)
        return {"time": (6, n, 3), "alike": (n, n), "mean": (), "boxes": (5 * n, 4), "y": (n, 2)}

    outputs = dict.fromkeys(["time", "alike", "mean", "boxes", "y"], ("?", "?"))
    expected = {"time": 1, "alike": None, "mean": None, "boxes": None, "y": 0}
    assert found_outputs(outputs, run) == (expected, None)
    assert found_outputs(outputs, run, given={"boxes": 0})[0]["boxes"] == 0


def test_a_model_that_runs_on_one_sample_only_gets_them_one_by_one():
    def run(batch):
        if len(batch) > 1:
            raise BackendError("inputs", "cannot be reshaped")
        return {"y": (1, 3)}

    assert found_outputs({"y": ["?", "?"]}, run) == ({"y": 0}, 1)


def recurrent():
    """Time first, a state of two layers, a rate that all samples share; the output is (T, N, 3)."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Div", ["x", "rate"], ["scaled"], "scale"),
        helper.make_node("MatMul", ["scaled", "w1"], ["m"], "input"),
        helper.make_node("Gather", ["state", "one"], ["top"], "top", axis=0),
        helper.make_node("Add", ["m", "top"], ["sum"], "sum"),
        helper.make_node("Tanh", ["sum"], ["h"], "tanh"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], "output"),
        helper.make_node("Mul", ["state", "half"], ["state_n"], "decay"),
        helper.make_node("ReduceMean", ["y"], ["mean"], "mean", keepdims=0),
    ]
    constants = {
        "w1": rng.normal(size=(8, 16)).astype(np.float32),
        "w2": rng.normal(size=(16, 3)).astype(np.float32),
        "one": np.array(1),
        "half": np.float32(0.5),
    }
    return models.build(
        nodes,
        [("x", FLOAT, ["T", "N", 8]), ("state", FLOAT, [2, "N", 16]), ("rate", FLOAT, [])],
        [("y", ["T", "N", 3]), ("state_n", [2, "N", 16]), ("mean", [])],
        constants,
    )


def experiment(task_output="y", samples=40, **overrides):
    """Writes the config and data of the recurrent model."""
    for seed, name in enumerate(("calibration", "validation")):
        rng = np.random.default_rng(seed)
        np.savez(
            f"{name}.npz",
            x=rng.normal(size=(samples, 6, 8)).astype(np.float32),
            state=rng.normal(size=(samples, 2, 16)).astype(np.float32),
            rate=np.float32(2),
        )
    inputs = {name: name for name in ("x", "state", "rate")}
    arrays = {"kind": "arrays", "inputs": inputs}
    content = {
        "name": "recurrent",
        "model": {"kind": "onnx", "path": "model.onnx"} | overrides,
        "data": {
            "batch_size": 8,
            "calibration": {**arrays, "path": "calibration.npz"},
            "validation": {**arrays, "path": "validation.npz"},
        },
        "task": {"kind": "embedding", "output": task_output},
        "calibration": {"calibrators": [{"kind": "minmax"}]},
        "quantization": {"min_channels": 1},
        "limits": {"output_sqnr_db_min": 20},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))


def cosines(result):
    return {c.name: c.score.worst_cosine for c in result.candidates}


@pytest.mark.parametrize("quantization", ["{min_channels: 1}", "{min_channels: 1, remedies: auto}"])
def test_time_first_states_and_shared_inputs_run_from_end_to_end(
    tmp_path, monkeypatch, quantization
):
    monkeypatch.chdir(tmp_path)
    onnx.save(recurrent(), "model.onnx")
    experiment()
    overrides = [*QUICK, f"quantization={quantization}"]
    result = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result
    assert result.verdict.verdict == "PASS"
    assert all(cosine > 0.99 for cosine in cosines(result).values())
    assert result.candidates[0].score.samples == 40
    assert any("share rate; x has its batch along axis 1" in note for note in result.notes)


def test_an_output_without_rows_is_judged_one_sample_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(recurrent(), "model.onnx")
    experiment(task_output="mean")
    result = run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent()).result
    assert result.candidates[0].score.samples == 40
    assert any("batches of 1, not 8" in note for note in result.notes)


def test_a_wrong_axis_in_the_config_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(recurrent(), "model.onnx")
    experiment(batch_axes={"y": 0})
    assert exit_code(monkeypatch) == 2
    assert "model.batch_axes.y: this output has no row for each sample" in capsys.readouterr().err
    experiment(batch_axes={"z": 0})
    assert exit_code(monkeypatch) == 2
    assert "is neither an input nor an output" in capsys.readouterr().err


def test_samples_that_a_fixed_batch_leaves_over_are_refused(workspace):
    model = onnx.load("model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 7
    onnx.save(model, "model.onnx")
    with pytest.raises(DataError, match=r"batches of 7 and of no other size.*48 samples"):
        run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent())


@pytest.mark.parametrize("size", [1, 12])
def test_a_fixed_batch_is_taken_whatever_the_config_says(workspace, size):
    model = onnx.load("model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    onnx.save(model, "model.onnx")
    overrides = ["throughput.runs=2", "quantization={remedies: auto}"]
    result = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result
    assert result.verdict.verdict == "PASS"
    assert {r.batch_size for c in result.candidates for r in c.latency} == {size}


def test_samples_with_unlike_shared_values_go_into_batches_of_their_own():
    samples = [Sample(str(i), {"x": np.full(2, i), "rate": np.array(i % 2)}) for i in range(10)]
    axes = {"rate": None}
    found = list(batches(samples, 4, axes=axes))
    assert [len(batch) for batch in found] == [4, 1, 4, 1]
    assert all(
        {s.inputs["rate"].item() for s in b.samples} == {b.inputs["rate"].item()} for b in found
    )
