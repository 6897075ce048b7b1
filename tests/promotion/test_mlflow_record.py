"""What MLflow is told of a run: names, lengths, figures; and the folder of its model."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow.models
import mlflow.onnx
import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import records
from onnx import TensorProto

from calib.errors import StoreError
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.promotion.mlflow.connection import mlflow_quiet
from calib.promotion.mlflow.model_folder import write_model_folder
from calib.promotion.mlflow.record import (
    metrics,
    parameters,
    run_tags,
    version_tags,
)
from calib.promotion.package import BUNDLE_NAME, Package, PackedFile, files_of
from calib.results import MetricScore, Waiver
from calib.store import sha256_from_file

ACCURACY = MetricScore(
    name="mAP@0.5", title="mAP", unit="%", higher_is_better=True, value=88.0, reference=90.0
)


def package(candidate=None, files=(), **changes):
    """A package of a run made by hand, judged by one limit."""
    candidate = candidate or records.candidate(model_path="models/int8/model.onnx")
    result = records.run(records.fp32(), candidate, **changes)
    verdict = evaluate(result, LimitsSpec(accuracy_drop_points_max=50))
    return Package("m", result, candidate, verdict, (), Path(), tuple(files))


def test_the_drop_is_the_verdicts_with_its_bounds():
    found, judged = metrics(package()), package().verdict.candidates[0].paired[0]
    assert judged.rival == "fp32"
    expected = (judged.drop_points, judged.low, judged.high)
    assert (found["drop"], found["drop_low"], found["drop_high"]) == expected
    assert found["limits.accuracy_drop_points_max"] == 50


def test_speed_stands_at_its_operating_point_memory_and_size_beside_it():
    timed = records.latency(2.0).model_copy(update={"threads": 4, "p99_ms": None})
    found = metrics(package(records.candidate(latency=(timed,))))
    assert found["int8.latency_p50_ms.batch_8.threads_4"] == 2.0
    assert "int8.latency_p99_ms.batch_8.threads_4" not in found
    assert found["fp32.latency_p99_ms.batch_8"] == pytest.approx(4.8)
    assert (found["int8.size_bytes"], found["fp32.size_bytes"]) == (400, 1000)
    assert found["int8.peak_memory_bytes"] == 5_000_000
    assert found["flips.total"] == 10
    assert found["flips.pct"] == 5.0


def test_metrics_of_both_have_names_that_mlflow_takes_and_stay_apart():
    alike = ACCURACY.model_copy(update={"name": "mAP:0.5", "value": 70.0, "reference": 71.0})
    unknown = ACCURACY.model_copy(update={"name": "nan", "value": float("nan"), "reference": None})
    score = records.score(metrics=(ACCURACY, alike, unknown))
    found = metrics(package(records.candidate(score=score)))
    assert (found["int8.mAP_0.5"], found["fp32.mAP_0.5"]) == (88.0, 90.0)
    assert found["int8.mAP_0.5_loss"] == 2.0
    assert 70.0 in {v for k, v in found.items() if k.startswith("int8.mAP_0.5-")}
    assert not [k for k in found if k.startswith(("int8.nan", "fp32.nan"))]
    assert all(re.fullmatch(r"[\w.\- ]{1,250}", key) for key in found)


def test_parameters_are_the_config_flat_and_no_longer_than_mlflow_takes():
    config = {
        "calibration": {"calibrators": [{"kind": "entropy", "levels": 128}], "memory_mb": None},
        "ops": ["Conv", "Gemm"],
        "description": "x" * 7000,
        "on": True,
        "deep": {"k" * 300: 1, "k" * 299 + "j": 2},
    }
    found = parameters(package(config=config))
    assert found["calibration.calibrators.0.kind"] == "entropy"
    assert found["calibration.calibrators.0.levels"] == "128"
    assert found["ops"] == '["Conv", "Gemm"]'
    assert found["on"] == "true"
    assert "calibration.memory_mb" not in found
    assert max(map(len, found.values())) == 6000
    assert max(map(len, found)) == 250
    assert {"1", "2"} <= {v for k, v in found.items() if k.startswith("deep")}


def test_tags_name_the_evidence_and_the_waivers():
    evidence = PackedFile.of(BUNDLE_NAME, b"{}")
    found = version_tags(package(files=(evidence,)))
    assert found["calib.bundle_sha256"] == evidence.sha256
    assert found["calib.verdict"] == "PASS"
    assert not [tag for tag in found if tag.startswith("calib.waived")]
    assert set(found) < set(run_tags(package(files=(evidence,))))


def test_a_waiver_says_for_how_long():
    ends = datetime(2027, 1, 2, tzinfo=UTC)
    waivers = (
        waiver(limit="flips_pct_max", expires=ends + timedelta(days=1)),
        waiver(limit="samples_min", expires=ends),
    )
    waived = replace(package(), waived=("flips_pct_max", "samples_min"), waivers=waivers)
    found = version_tags(waived)
    assert found["calib.waived"] == "flips_pct_max, samples_min"
    assert found["calib.waived_until"] == "2027-01-02T00:00:00+00:00"


def waiver(**changes):
    values = {"model_sha256": "0" * 64, "owner": "Ada", "reason": "a pilot with ten users"}
    return Waiver(**values, **changes)


def test_a_card_drawn_anew_is_no_other_package():
    model = PackedFile.of("model.onnx", b"1")
    found = {
        package(files=(model, PackedFile.of("model_card.md", card))).sha256
        for card in (b"one", b"two")
    }
    assert len(found) == 1


def test_other_files_waivers_or_runs_are_another_package_another_name_is_not():
    one = package(files=(PackedFile.of("model.onnx", b"1"),))
    others = [
        package(files=(PackedFile.of("model.onnx", b"2"),)),
        package(files=one.files, run_id="20260101-000000-000-abcdee"),
        replace(one, waived=("flips",)),
    ]
    found = [other.sha256 for other in (one, *others)]
    assert len(set(found)) == 4
    assert replace(one, name="n").sha256 == found[0]


@pytest.fixture
def outside(tmp_path):
    """A candidate whose weights lie beside its file, with an engine and a session's settings."""
    folder = tmp_path / "models" / "int8"
    folder.mkdir(parents=True)
    onnx.save(
        models.mlp(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    settings = (
        '{"threads": 2, "optimization": "ORT_ENABLE_ALL", "entries": {"session.x": "1"},'
        ' "providers": ["CPUExecutionProvider"]}'
    )
    (folder / "session.json").write_text(settings)
    (folder / "a.plan").write_bytes(b"plan")
    candidate = records.candidate(
        model_path="models/int8/model.onnx",
        model_sha256=sha256_from_file(folder / "model.onnx"),
        engines=(records.engine(plan_sha256=sha256_from_file(folder / "a.plan")),),
    )
    return package(candidate, tuple(files_of(candidate, tmp_path)))


def write(packed, folder):
    with mlflow_quiet():
        write_model_folder(packed, folder, run_id="r", model_id="m-1", location="somewhere")


def test_weights_beside_the_file_go_with_it_and_load(outside, tmp_path):
    folder = tmp_path / "written"
    write(outside, folder)
    assert (folder / "model.onnx").read_bytes() == outside.model.read()
    assert (folder / "a.plan").read_bytes() == b"plan"
    x = np.random.default_rng(1).normal(size=(3, models.FEATURES)).astype(np.float32)
    with mlflow_quiet():
        proto = mlflow.onnx.load_model(str(folder))
        served = mlflow.pyfunc.load_model(str(folder)).predict({"x": x})["logits"]
    expected = models.run(models.mlp(), {"x": x})["logits"]
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)
    loaded = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(loaded, served)


def test_mlflow_opens_it_with_the_session_that_it_was_measured_with(outside, tmp_path):
    write(outside, tmp_path / "written")
    made = mlflow.models.Model.load(str(tmp_path / "written"))
    flavor = made.flavors["onnx"]
    assert flavor["providers"] == ["CPUExecutionProvider"]
    assert flavor["onnx_session_options"] == {
        "graph_optimization_level": 99,
        "extra_session_config": {"session.x": "1"},
    }
    sizes = [p.stat().st_size for p in (tmp_path / "written").rglob("*") if p.is_file()]
    assert made.model_size_bytes == pytest.approx(sum(sizes), rel=0.1)
    assert (made.run_id, made.model_id) == ("r", "m-1")


def test_a_file_that_was_changed_meanwhile_is_not_promoted(outside, tmp_path):
    weights = next(file for file in outside.files if file.name == "model.onnx.data")
    weights.source.write_bytes(weights.source.read_bytes() + b"x")
    with pytest.raises(StoreError, match="was changed"):
        write(outside, tmp_path / "written")


def test_a_type_that_is_none_of_numpys_leaves_the_signature_out(tmp_path):
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    ends = [
        onnx.helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["n", 2])
        for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    content = onnx.helper.make_model(graph).SerializeToString()
    write(package(files=(PackedFile.of("model.onnx", content),)), tmp_path / "written")
    made = mlflow.models.Model.load(str(tmp_path / "written"))
    assert made.signature is None
    assert (tmp_path / "written" / "model.onnx").read_bytes() == content
