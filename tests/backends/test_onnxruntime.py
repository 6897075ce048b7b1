"""The ONNX Runtime backend against the ONNX reference evaluator."""

import models
import numpy as np
import onnx
import pytest

from calib.backends.footprint import peak_memory_bytes
from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.errors import BackendError


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(models.mlp(), path)
    return path


def x(rows=3):
    return np.random.default_rng(0).normal(size=(rows, models.FEATURES)).astype(np.float32)


@pytest.mark.parametrize("optimization", ["disabled", "basic", "extended", "all"])
def test_it_computes_what_the_reference_evaluator_does(model, optimization):
    backend = OnnxRuntime(OnnxRuntimeSpec(optimization=optimization, threads=1))
    with backend.engine(model) as engine:
        found = engine.infer({"x": x()})
    expected = models.run(models.mlp(), {"x": x()})
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)


def test_the_polygraphy_runner_is_the_same_engine(model):
    backend = OnnxRuntime(OnnxRuntimeSpec())
    with backend.engine(model) as engine, backend.runner(model, "fp32") as runner:
        ours, theirs = engine.infer({"x": x()}), runner.infer({"x": x()})
        np.testing.assert_array_equal(ours["logits"], theirs["logits"])
        assert runner.name == "fp32"


@pytest.mark.parametrize(
    "feed",
    [{"y": x()}, {"x": x().astype(np.float64)}, {"x": x()[:, :5]}, {}],
    ids=["name", "dtype", "shape", "none"],
)
def test_an_input_that_does_not_fit_is_refused(model, feed):
    with (
        OnnxRuntime(OnnxRuntimeSpec()).engine(model) as engine,
        pytest.raises(BackendError, match="ONNX Runtime refused it"),
    ):
        engine.infer(feed)


def test_a_model_it_cannot_load_is_refused_by_its_path(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"nothing")
    with (
        pytest.raises(BackendError, match=r"bad\.onnx.*refused"),
        OnnxRuntime(OnnxRuntimeSpec()).engine(path),
    ):
        pass


def test_it_says_what_the_numbers_depend_on():
    described = OnnxRuntime(OnnxRuntimeSpec(threads=3)).describe()
    assert described["threads"] == "3"
    assert described["providers"] == "CPUExecutionProvider"
    assert set(described) == {"version", "providers", "threads", "optimization", "8-bit sums"}


def test_peak_memory_grows_with_what_an_engine_needs(model):
    small, large = (
        peak_memory_bytes(model, OnnxRuntimeSpec(threads=1), {"x": x(rows)})
        for rows in (1, 400_000)
    )
    assert small > 10_000_000
    # The input alone is 51 MB, and a hidden layer 77 MB.
    assert large - small > 100_000_000


def test_a_probe_that_dies_says_why(model):
    with pytest.raises(BackendError, match=r"the memory probe died.*refused"):
        peak_memory_bytes(model, OnnxRuntimeSpec(), {"x": x()[:, :5]})


def test_the_structure_of_what_it_runs_holds_no_large_constant(tmp_path):
    weight = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)
    proto = models.build(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "fc")],
        [("x", onnx.TensorProto.FLOAT, ["n", 600])],
        [("y", ["n", 600])],
        {"w": weight},
    )
    path, target = tmp_path / "m.onnx", tmp_path / "out" / "structure.onnx"
    target.parent.mkdir()
    onnx.save(proto, path)
    OnnxRuntime(OnnxRuntimeSpec()).write_structure(path, target)
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_size < weight.nbytes / 100
    graph = onnx.load(target, load_external_data=False).graph
    assert [node.op_type for node in graph.node] == ["MatMul"]
    assert [list(one.dims) for one in graph.initializer] == [[600, 600]]


def test_a_structure_that_cannot_be_written_is_refused(model, tmp_path):
    with pytest.raises(BackendError, match="refused"):
        OnnxRuntime(OnnxRuntimeSpec()).write_structure(model, tmp_path / "absent" / "s.onnx")
