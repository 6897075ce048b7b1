"""What Triton serves, and by which backend: what was judged, as it was measured."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import records
import whole_runs

sys.path.insert(0, str(Path(__file__).parent))

import packages
from packages import mlp_package, promote, written

from calib.errors import BackendError, StoreError
from calib.promotion.package import Package, PackedFile, files_of
from calib.promotion.triton.schema import schema


def test_a_run_of_ones_own_is_served_as_it_was_measured(tmp_path):
    run = whole_runs.finished(
        packages.mlp(16, 8),
        {"x": np.random.default_rng(4).normal(size=(32, 16)).astype(np.float32)},
        tmp_path,
        throughput={"batch_sizes": [1, 4], "threads": [1], "runs": 5, "warmup_runs": 1},
    )
    candidate = run.result.candidate("int8-minmax")
    files = tuple(files_of(candidate, run.directory))
    promote(
        tmp_path,
        Package("net", run.result, candidate, run.result.verdict, (), run.directory, files),
    )
    config, version = written(tmp_path), tmp_path / "repository" / "net" / "1"
    session = json.loads((run.directory / "models/int8-minmax/session.json").read_text())
    measured = run.directory / "models/int8-minmax" / session["model"]
    assert (version / "model.onnx").read_bytes() == measured.read_bytes()
    assert config.max_batch_size == 4
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert config.model_warmup[0].batch_size == 1
    speeds = {r.batch_size: r.samples_per_second for r in candidate.latency}
    assert list(config.dynamic_batching.preferred_batch_size) == [4] * (speeds[4] > speeds[1])
    assert [(list(p.dims), p.name) for p in config.input] == [([16], "x")]


def engine(package, **changes):
    plan = package.folder / "engine.plan"
    plan.write_bytes(b"a plan")
    packed = PackedFile.of("int8-minmax.plan", plan)
    record = records.engine(
        **{
            "backend": "tensorrt",
            "plan_sha256": packed.sha256,
            "profile": {"x": ((1, 4), (4, 4), (6, 4))},
            **changes,
        }
    )
    candidate = package.candidate.model_copy(update={"engines": (record,)})
    return replace(package, candidate=candidate, files=(*package.files, packed))


def test_the_twin_that_was_measured_is_what_is_served(tmp_path):
    package = mlp_package(tmp_path, session={"model": "onnxruntime.onnx"})
    path = package.folder / "models" / "int8-minmax" / "onnxruntime.onnx"
    outside = path.with_name("onnxruntime.onnx.data")
    onnx.save(
        packages.mlp(seed=9),
        path,
        save_as_external_data=True,
        location=outside.name,
        size_threshold=0,
    )
    files = (*package.files, *(PackedFile.of(p.name, p) for p in (path, outside)))
    promote(tmp_path, replace(package, files=files))
    version = tmp_path / "repository" / "net" / "1"
    assert (version / outside.name).is_file()
    assert not (version / path.name).exists()
    x = np.random.default_rng(2).normal(size=(2, 4)).astype(np.float32)
    served = ort.InferenceSession(str(version / "model.onnx")).run(None, {"x": x})[0]
    twin = ort.InferenceSession(packages.mlp(seed=9).SerializeToString())
    np.testing.assert_array_equal(served, twin.run(None, {"x": x})[0])


def test_settings_of_the_session_that_triton_knows_are_passed_on(tmp_path):
    session = {
        "optimization": "ORT_ENABLE_EXTENDED",
        "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "entries": {
            "session.x64quantprecision": "1",
            "session.use_device_allocator_for_initializers": "1",
        },
    }
    said = promote(tmp_path, mlp_package(tmp_path, session=session))
    config = written(tmp_path)
    assert config.optimization.graph.level == 1
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_GPU
    known = "session.use_device_allocator_for_initializers"
    assert config.parameters[known].string_value == "1"
    assert config.parameters["calib.session.x64quantprecision"].string_value == "1"
    assert any(re.match("mind: .*VNNI", line) for line in said)


def test_instances_have_cores_and_memory_of_their_own(tmp_path):
    package = mlp_package(tmp_path, threads=1)
    machine = package.result.environment.model_copy(update={"logical_cores": 8})
    small = package.candidate.model_copy(update={"peak_memory_bytes": machine.memory_bytes // 6})
    result = package.result.model_copy(update={"environment": machine})
    for name, candidate, count in (("cores", package.candidate, 8), ("memory", small, 3)):
        promote(tmp_path, replace(package, name=name, result=result, candidate=candidate))
        assert written(tmp_path, name).instance_group[0].count == count


def test_engines_of_several_targets_are_told_apart_by_capability(tmp_path):
    package = engine(mlp_package(tmp_path), target="8.9")
    plan = PackedFile.of("other.plan", b"another plan")
    other = package.candidate.engines[0].model_copy(
        update={"target": "9.0", "plan_sha256": plan.sha256, "profile": {"x": ((1, 4),) * 3}}
    )
    candidate = package.candidate.model_copy(
        update={"engines": (*package.candidate.engines, other)}
    )
    promote(tmp_path, replace(package, candidate=candidate, files=(*package.files, plan)))
    config = written(tmp_path)
    assert dict(config.cc_model_filenames) == {"8.9": "model-8.9.plan", "9.0": "model-9.0.plan"}
    assert (tmp_path / "repository/net/1/model-9.0.plan").read_bytes() == b"another plan"
    assert config.max_batch_size == 1  # what every one of them takes


def test_an_engine_goes_to_the_tensorrt_backend_within_its_profile(tmp_path):
    promote(tmp_path, engine(mlp_package(tmp_path)))
    config = written(tmp_path)
    assert config.backend == "tensorrt"
    assert (tmp_path / "repository/net/1/model.plan").read_bytes() == b"a plan"
    assert not (tmp_path / "repository/net/1/model.onnx").exists()
    assert config.max_batch_size == 6
    assert list(config.instance_group[0].profile) == ["0"]
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_GPU
    assert "intra_op_thread_count" not in config.parameters


def test_a_judged_engine_of_tensorrt_rtx_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no backend for"):
        promote(tmp_path, engine(mlp_package(tmp_path), backend="tensorrt_rtx"))
    assert not list((tmp_path / "repository").glob("net"))


def test_an_engine_of_a_model_that_onnx_runtime_does_not_take_is_served_all_the_same(tmp_path):
    node = onnx.helper.make_node("Plugin", ["x"], ["y"], domain="somebody")
    ends = ([packages.end("x", "float32", "n", 4)], [packages.end("y", "float32", "n", 4)])
    proto = packages.model([node], *ends)
    proto.opset_import.append(onnx.helper.make_opsetid("somebody", 1))
    samples = {"x": np.ones((8, 4), np.float32)}
    made = packages.package(tmp_path / "run", proto, samples, times=packages.TIMES)
    promote(tmp_path, engine(made))
    assert written(tmp_path).max_batch_size == 6
    with pytest.raises(BackendError, match="refused it"):
        promote(tmp_path, replace(made, name="another"))
