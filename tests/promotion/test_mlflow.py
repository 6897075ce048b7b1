"""MLflow: a real server with SQLite, and what arrives there, moves there, and is left alone."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import mlflow.onnx
import models
import numpy as np
import onnxruntime as ort
import pytest
from mlflow_steps import CLIENT, aliases, another, interposed, interrupt, target, uploaded, versions

from calib.cli import main
from calib.errors import StoreError
from calib.promotion.mlflow import open_target
from calib.promotion.mlflow.connection import mlflow_quiet
from calib.promotion.mlflow.record import metrics, parameters
from calib.promotion.package import PackedFile
from calib.promotion.target import TargetOptions
from calib.results import Verdict
from calib.store import sha256_from_file

pytestmark = pytest.mark.usefixtures("own_settings")


def test_a_run_a_model_and_a_version_arrive_with_everything(server, client, package, capfd):
    planned = target(server).plan(package)
    done = target(server).promote(package)
    assert [line.split()[0] for line in planned] == ["log", "register", "move"]
    assert [line.split()[0] for line in done] == ["logged", "registered", "moved"]
    assert done[2] == "moved alias champion to version 1"
    assert capfd.readouterr() == ("", "")

    (version,) = versions(client, package)
    assert aliases(client, package) == {"champion": 1}
    assert version.status == "READY"
    tags = version.tags
    assert tags["calib.verdict"] == "PASS"
    assert tags["calib.run_id"] == package.result.run_id
    assert tags["calib.model_sha256"] == sha256_from_file(package.model.source)
    assert tags["calib.fp32_sha256"] == package.result.model.sha256
    assert "calib.waived" not in tags

    run, (model,) = uploaded(client, package)
    assert client.get_experiment(run.info.experiment_id).name == package.result.experiment
    assert (run.info.run_name, run.info.status) == (package.result.run_id, "FINISHED")
    assert run.data.metrics == pytest.approx(metrics(package))
    assert run.data.params == parameters(package)
    assert model.status == "READY"
    assert {m.key for m in model.metrics} == set(metrics(package))
    there = {item.path for item in client.list_artifacts(run.info.run_id)}
    kept = {path.name for path in package.folder.iterdir() if path.is_file()}
    assert there == kept | {"model_card.md"}
    assert {"report.html", "result.json", "verdict.json", "samples.csv"} <= there


def test_what_mlflow_loads_is_to_the_byte_what_was_judged(server, package, tmp_path, monkeypatch):
    target(server).promote(package)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    uri = f"models:/{package.name}@champion"
    with mlflow_quiet():
        proto = mlflow.onnx.load_model(uri, dst_path=str(tmp_path))
        served = mlflow.pyfunc.load_model(uri)
    ours = package.model.read()
    assert proto.SerializeToString(deterministic=True)
    (copy,) = tmp_path.rglob("model.onnx")
    assert copy.read_bytes() == ours
    beside = {path.name for path in copy.parent.iterdir()}
    assert {f.name for f in package.files} - beside == {"warmup.npz"}  # it holds samples
    assert {"scales.json", "session.json", "model_card.md", "MLmodel"} <= beside
    x = np.random.default_rng(1).normal(size=(5, models.FEATURES)).astype(np.float32)
    (expected,) = ort.InferenceSession(ours).run(None, {"x": x})
    for found in (
        served.predict({"x": x})["logits"],
        ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0],
    ):
        np.testing.assert_array_equal(found, expected)
    (given,), (made,) = served.metadata.signature.inputs, served.metadata.signature.outputs
    assert (given.name, given.type, given.shape) == ("x", np.float32, (-1, models.FEATURES))
    assert (made.name, made.type, made.shape) == ("logits", np.float32, (-1, models.CLASSES))
    assert served.metadata.run_id


def test_once_more_changes_nothing(server, client, package):
    target(server).promote(package)
    before = versions(client, package)
    assert target(server).plan(package) == ()
    assert target(server).promote(package) == ()
    assert [(v.version, v.last_updated_timestamp) for v in versions(client, package)] == [
        (v.version, v.last_updated_timestamp) for v in before
    ]
    assert len(uploaded(client, package)[1]) == 1


def test_a_new_champion_keeps_the_former_one_and_going_back_is_said(
    server, client, package, tmp_path
):
    newer = another(package, "worst_class_drop_points_max")
    page = PackedFile.of("report.html", b"it says by whom it was waived")
    newer = replace(newer, files=(*newer.files, page))
    target(server).promote(package)
    planned = target(server).plan(newer)
    assert any("move alias champion from version 1" in line for line in planned)
    assert any("keep version 1 as alias previous" in line for line in planned)
    target(server).promote(newer)
    assert aliases(client, package) == {"champion": 2, "previous": 1}
    version = client.get_model_version(package.name, "2")
    assert version.tags["calib.waived"] == "worst_class_drop_points_max"
    with mlflow_quiet():
        report = Path(client.download_artifacts(version.run_id, "report.html", str(tmp_path)))
    assert report.read_bytes() == page.source

    (move, keep) = target(server).plan(package)
    assert "from version 2 to version 1" in move
    assert "rolls back" in move
    assert "version 2 as alias previous" in keep
    target(server).promote(package)
    assert aliases(client, package) == {"champion": 1, "previous": 2}
    assert len(versions(client, package)) == 2

    for promoted in (package, newer):  # another alias has a former one of its own
        target(server, alias="staging").promote(promoted)
    assert aliases(client, package) == {
        "champion": 1,
        "previous": 2,
        "staging": 2,
        "previous-staging": 1,
    }


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE])
def test_what_did_not_pass_moves_nothing(server, client, package, verdict):
    judged = replace(package, verdict=package.verdict.model_copy(update={"verdict": verdict}))
    for step in (target(server).plan, target(server).promote):
        with pytest.raises(StoreError, match="is not promoted"):
            step(judged)
    assert not client.search_registered_models(f"name='{package.name}'")


def test_a_plan_changes_nothing(server, client, package):
    elsewhere = package.result.model_copy(update={"experiment": "an experiment of its own"})
    assert len(target(server).plan(replace(package, result=elsewhere))) == 3
    assert client.get_experiment_by_name(elsewhere.experiment) is None
    assert not client.search_registered_models(f"name='{package.name}'")


STEPS = (
    ("log_batch", "after"),
    ("log_model_artifacts", "after"),
    ("finalize_logged_model", "after"),
    ("create_model_version", "before"),
    ("create_model_version", "after"),
    ("set_registered_model_alias", "before"),
)


def test_a_try_that_was_cut_short_is_gone_on_with(server, client, package, monkeypatch):
    """Again and again, each time at a later step."""
    fresh = another(package, "cut short")
    for step, when in STEPS:
        interposed(monkeypatch, step, **{when: interrupt})
        with pytest.raises(KeyboardInterrupt):
            target(server).promote(fresh)
        known = client.search_registered_models(f"name='{package.name}'")
        assert not known or not known[0].aliases
    target(server).promote(fresh)
    assert aliases(client, package) == {"champion": 1}
    assert len(versions(client, package)) == 1
    run, found = uploaded(client, package)
    assert run.info.status == "FINISHED"
    assert [model.status for model in found] == ["READY"]
    assert run.data.metrics == pytest.approx(metrics(fresh))
    histories = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
    assert {len(history) for history in histories[:5]} == {1}
    assert target(server).plan(fresh) == ()


def test_a_model_that_did_not_arrive_whole_is_no_version(server, client, package, monkeypatch):
    fresh = another(package, "half")
    real = CLIENT.log_model_artifacts

    def half(self, model_id, folder, artifact_path=None):
        path = Path(folder, "model.onnx")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        real(self, model_id, folder, artifact_path)
        path.write_bytes(whole)

    monkeypatch.setattr(CLIENT, "log_model_artifacts", half)
    with pytest.raises(StoreError, match="did not arrive whole"):
        target(server).promote(fresh)
    assert not client.search_registered_models(f"name='{package.name}'")


def test_a_database_is_made_by_promoting_not_by_planning(package, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    store = open_target("mlflow:sqlite:///mlflow.db", TargetOptions())
    assert len(store.plan(package)) == 4
    assert not list(tmp_path.iterdir())
    store.promote(package)
    assert store.plan(package) == ()
    assert capfd.readouterr() == ("", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlflow.db", "mlruns"]
    (copy,) = tmp_path.glob("mlruns/**/artifacts/model.onnx")
    assert copy.read_bytes() == package.model.read()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_mlflows_own_variable_names_the_server(server, package, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert open_target("mlflow:", TargetOptions()).plan(package)


def test_a_command_line_promotes_and_shows_no_password(
    server, client, passed_run, capsys, monkeypatch
):
    to = server.replace("://", "://ada:secret@")
    command = ["calib", "promote", str(passed_run), "--to", f"mlflow:{to}", "--name", "by-command"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main(default_command="run")
    assert not stopped.value.code
    said = capsys.readouterr()
    assert "moved alias champion to version 1" in said.out
    assert "secret" not in said.out + said.err
    assert client.get_model_version_by_alias("by-command", "champion").version == "1"
