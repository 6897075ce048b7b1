"""What does not fit into memory is said before it is tried; what fits is never refused."""

import dataclasses

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small import config

from calib.config import Experiment
from calib.errors import DataError, ModelError
from calib.graph.load import load_model
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.stages import memory
from calib.stages.memory import memory_notes
from data_loaders import Scan


def scanned(samples, *axes):
    return Scan(samples, samples, {}, "", {"x": "float32"}, {"x": axes}, {})


@pytest.fixture
def mlp(tmp_path):
    onnx.save(models.mlp(), tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


@pytest.fixture
def free(monkeypatch):
    return lambda size: monkeypatch.setattr(memory, "available_bytes", lambda: size)


def test_weights_are_held_against_what_is_free(mlp, free):
    size = mlp.record.size_bytes
    heavy = dataclasses.replace(mlp, record=mlp.record.model_copy(update={"size_bytes": 10**10}))
    free(9 * 10**9)
    with pytest.raises(ModelError, match=r"does not fit into memory \(got 10 GB of weights; exp"):
        memory_notes(heavy, scanned(10, (32, 32, 32)), 1)
    free(10**10)
    (note,) = memory_notes(heavy, scanned(10, (32, 32, 32)), 1)
    assert note == "memory: the weights take 10 GB of the 10 GB that is free"
    free(size * 100)
    assert memory_notes(mlp, scanned(10, (32, 32, 32)), 1) == ()


def test_samples_are_held_by_windows_of_batches(mlp, free):
    axis = (10**6, 10**7, 10**8)
    free(32 * 8 * 10**6 * 4 - 1)
    with pytest.raises(DataError, match=r"data.batch_size: the samples of 32 batches.*got 8: 256"):
        memory_notes(mlp, scanned(1000, axis), 8)
    free(2 * 32 * 8 * 10**6 * 4 + 1)
    assert memory_notes(mlp, scanned(1000, axis), 8) == ()
    free(10 * 10**6 * 4 * 2 + 1)
    assert memory_notes(mlp, scanned(10, axis), 8) == ()  # a data set may be smaller than a window


def huge(path, rows):
    """A few bytes that ask for rows x 2**20 floats."""
    proto = models.mlp()
    shape = numpy_helper.from_array(np.array([rows, 1 << 20], np.int64), "huge_shape")
    proto.graph.initializer.append(shape)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"], name="fill"),
            helper.make_node("ReduceMax", ["huge"], ["largest"], name="max", keepdims=0),
            helper.make_node("Add", ["before", "largest"], ["logits"], name="add"),
        ]
    )
    onnx.save(proto, path)


def test_a_tensor_that_cannot_be_held_is_named_before_it_is_made(workspace):
    huge(workspace / "model.onnx", 1 << 24)
    with pytest.raises(ModelError, match="tensor huge of one batch does not fit into memory"):
        run_experiment(Experiment.model_validate(config()), Silent())


def test_named_axes_have_the_sizes_of_the_data(mlp, free):
    free(9000)
    light = dataclasses.replace(mlp, record=mlp.record.model_copy(update={"size_bytes": 1}))
    with pytest.raises(ModelError, match=r"tensor h1 of one batch.*got 9.6e-05 GB for 500 samples"):
        memory_notes(light, scanned(500, (0, 0, 0)), 1000)


def test_activations_that_do_not_fit_together_are_observed_in_groups(workspace, monkeypatch):
    content = config()
    content["throughput"] = {"batch_sizes": []}
    content["calibration"]["tensors"] = "all"
    at_once = run_experiment(Experiment.model_validate(content), Silent()).result
    monkeypatch.setattr("calib.stages.inputs.memory_notes", lambda *_: ())
    monkeypatch.setattr(memory, "available_bytes", lambda: 5000)
    content["output"] = {"store": "another"}
    grouped = run_experiment(Experiment.model_validate(content), Silent()).result
    assert at_once.calibration.passes == 1
    assert grouped.calibration.passes > 1
    assert grouped.calibration.activations == at_once.calibration.activations
