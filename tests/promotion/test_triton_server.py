"""Triton itself reads what is written: its core, from the wheel of nvidia-pytriton."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))

import packages
import triton_server
from packages import end

from calib.promotion.target import TargetOptions
from calib.promotion.triton import open_target

NO_BACKEND = "unable to find backend library for backend 'onnxruntime'"
RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if sys.platform != "linux" or not triton_server.has_stub():
        pytest.skip("the wheel's server is for Linux and Python 3.8 to 3.13")
    return triton_server.unpacked(tmp_path_factory.mktemp("triton"))


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _models():
    """(model, kept batch, batch axes) by name."""
    add = helper.make_node("Add", ["a", "b"], ["s"])
    numbers = helper.make_node(
        "LabelEncoder",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        keys_strings=["café", "", "two words"],
        values_int64s=[3, 5, 7],
        default_int64=-1,
    )
    total = helper.make_node("ReduceSum", ["x"], ["all"], keepdims=0)
    return {
        "dynamic": (packages.mlp(), {"x": floats(8, 4)}, {}),
        "fixed": (
            packages.identity([end("x", "float32", 8, 4)], [end("y", "float32", 8, 4)]),
            {"x": floats(8, 4)},
            {},
        ),
        "time-major": (
            packages.identity(
                [end("x", "float32", "time", "batch", 4)], [end("y", "float32", "time", "batch", 4)]
            ),
            {"x": floats(5, 8, 4)},
            {"x": 1},
        ),
        "two-inputs": (
            packages.model(
                [
                    helper.make_node("Cast", ["u"], ["b"], to=onnx.TensorProto.INT64),
                    add,
                ],
                [end("a", "int64", "n", "length"), end("u", "uint8", "n", "length")],
                [end("s", "int64", "n", "length")],
            ),
            {
                "a": RNG.integers(0, 9, (8, 5)),
                "u": RNG.integers(0, 255, (8, 5)).astype(np.uint8),
            },
            {},
        ),
        "halves": (
            packages.identity([end("x", "float16", "n", 4)], [end("y", "float16", "n", 4)]),
            {"x": floats(8, 4).astype(np.float16)},
            {},
        ),
        "scalar-a-sample": (
            packages.identity([end("x", "float32", "n")], [end("y", "float32", "n")]),
            {"x": floats(8)},
            {},
        ),
        "scalar-of-all": (
            packages.model([total], [end("x", "float32", "n", 4)], [end("all", "float32")]),
            {"x": floats(8, 4)},
            {},
        ),
        "texts": (
            packages.model(
                [numbers],
                [end("x", "object", "n", 2)],
                [end("y", "int64", "n", 2)],
            ),
            {"x": np.array([["café", ""], ["two words", "x"]] * 4)},
            {},
        ),
    }


def promoted(folder, name, proto, samples, axes):
    made = packages.package(
        folder / f"run-{name}",
        proto,
        samples,
        axes,
        times=((1, 1.0), (8, 2.0)),
        name=name,
        threads=2,
        session={},
    )
    open_target(str(folder / "repository"), TargetOptions()).promote(made)
    return made


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """All models, and where they are."""
    folder = tmp_path_factory.mktemp("served")
    models = _models()
    for name, (proto, samples, axes) in models.items():
        promoted(folder, name, proto, samples, axes)
    return folder / "repository", models


def _served(repository):
    """Those that the backend can run; the stand-in has no strings."""
    real = bool(triton_server.REAL_BACKENDS)
    return {n: model for n, model in repository[1].items() if real or n != "texts"}


@pytest.fixture(scope="module")
def running(server, repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("running")
    backends = triton_server.onnxruntime_in_python(folder / "backends", server)
    with triton_server.running(
        server, repository[0], backends, folder, _served(repository)
    ) as found:
        yield found


def test_every_model_is_refused_for_want_of_the_backend_alone(server, repository, tmp_path):
    root, models = repository
    said = triton_server.refusals(server, root, tmp_path)
    for name in models:
        (line,) = [row for row in said.splitlines() if re.match(rf"\| {name} +\|", row)]
        assert NO_BACKEND in line
    assert not re.findall(
        r"^E\d{4} (?!.*(?:backend library|CudaDriverHelper)).*$", said, re.MULTILINE
    )


def test_a_broken_configuration_is_refused_for_another_reason(server, tmp_path):
    proto, samples = packages.mlp(), {"x": floats(8, 4)}
    breaks = {
        "zero-dim": ("dims: 4", "dims: 0", "dimension must be integer >= 1"),
        "unknown-field": ("dims: 4", "dim: 4", "failed to read text proto"),
        "too-large": ("max_batch_size: 8", "max_batch_size: 4", "preferred size must be <="),
        "renamed": ('name: "renamed"', 'name: "other"', "directory name must equal model name"),
        "no-type": ("data_type: TYPE_FP32", "", "must specify 'data_type'"),
    }
    for name, (old, new, _) in breaks.items():
        promoted(tmp_path, name, proto, samples, {})
        path = tmp_path / "repository" / name / "config.pbtxt"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
    said = triton_server.refusals(server, tmp_path / "repository", tmp_path)
    assert NO_BACKEND not in said
    for _, _, reason in breaks.values():
        assert reason in said


def test_it_answers_as_onnx_runtime_does(running, repository):
    for name, (proto, samples, _) in _served(repository).items():
        session = ort.InferenceSession(proto.SerializeToString())
        given = {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in samples.items()}
        expected = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True)
        )
        told = running.get(f"models/{name}")
        types = {end["name"]: end["datatype"] for end in told["inputs"]}
        # To Triton a batch of scalars is of (batch, 1).
        sent = {n: a[:, None] if a.ndim == 1 else a for n, a in samples.items()}
        found = running.infer(name, sent, types)
        assert found.keys() == expected.keys()
        for output, array in found.items():
            np.testing.assert_allclose(
                array.reshape(-1), np.ravel(expected[output]), rtol=1e-6, err_msg=name
            )


def test_the_server_warms_up_with_each_batch_size(running, repository):
    log = running.log.read_text()
    for name in _served(repository):
        found = set(
            re.findall(rf"model '{name}' instance \S+ is running warmup sample '(.+?)'", log)
        )
        batched = running.get(f"models/{name}/config")["max_batch_size"] > 0
        assert found == ({"batch-1", "batch-8"} if batched else {"one-batch"})


def test_what_batches_and_what_does_not(running, repository):
    models = _served(repository).keys()
    batched = {n for n in models if running.get(f"models/{n}/config")["max_batch_size"]}
    assert batched == models - {"fixed", "time-major", "scalar-of-all"}


def test_a_running_server_takes_the_new_version_and_goes_back(running, repository, tmp_path):
    samples = {"x": floats(8, 4)}
    target = open_target(str(repository[0]), TargetOptions())
    made = [
        packages.package(
            tmp_path / f"run{seed}",
            packages.mlp(seed=seed),
            samples,
            times=((1, 1.0), (8, 2.0)),
            name="changed",
            threads=2,
            session={},
        )
        for seed in (0, 1)
    ]
    for seed, version in ((0, "1"), (1, "2"), (0, "1")):
        target.promote(made[seed])
        running.load("changed")
        assert running.get("models/changed")["versions"] == [version]
        session = ort.InferenceSession(packages.mlp(seed=seed).SerializeToString())
        answer = running.infer("changed", samples, {"x": "FP32"})["logits"]
        np.testing.assert_allclose(answer, session.run(None, samples)[0], rtol=1e-6)


@pytest.mark.skipif(not triton_server.REAL_BACKENDS, reason="TRITON_BACKENDS is not set")
def test_the_backend_refuses_dims_that_only_the_file_has(server, tmp_path):
    """So the dims must be those of the runtime: what this changes is what the file would say."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    proto = packages.model(
        [node],
        [end("x", "float32", "n", 4)],
        [end("y", "float32", "n", "a", "b")],
        [onnx.numpy_helper.from_array(np.array([0, 2, 2]), "shape")],
    )
    backends = Path(triton_server.REAL_BACKENDS)
    promoted(tmp_path, "reshaped", proto, {"x": floats(8, 4)}, {})
    root = tmp_path / "repository"
    with triton_server.running(server, root, backends, tmp_path, ["reshaped"]) as found:
        assert found.get("models/reshaped")["outputs"][0]["shape"] == [-1, 2, 2]
    path = root / "reshaped" / "config.pbtxt"
    path.write_text(path.read_text().replace("dims: 2", "dims: -1"))
    assert "the model expects 3 dimensions" in triton_server.refusals(
        server, root, tmp_path, backends
    )
