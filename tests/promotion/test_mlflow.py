"""MLflow: a real server with SQLite, and what arrives there, moves there, and is left alone."""

import itertools
import json
import os
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import mlflow.onnx
import models
import numpy as np
import onnxruntime as ort
import pytest

from calib.cli import main
from calib.errors import ConfigError, StoreError
from calib.promotion.mlflow import open_target
from calib.promotion.mlflow.alias import Standing, move_alias
from calib.promotion.mlflow.connection import mlflow_quiet
from calib.promotion.mlflow.record import metrics, parameters
from calib.promotion.package import PackedFile
from calib.promotion.promotable import Request, promotable
from calib.promotion.target import TargetOptions
from calib.results import Verdict
from calib.store import sha256_from_file

CLIENT = mlflow.MlflowClient


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch):
    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # for machines with much else to do


@pytest.fixture
def client(server):
    return CLIENT(tracking_uri=server)


@pytest.fixture
def package(passed_run, request):
    """What a run lets go, under a name of this test's own; each worker has a run of its own."""
    found = promotable(Request(run=passed_run))
    run_id = f"{found.result.run_id}-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    return replace(
        found,
        name=request.node.name.replace("[", "-").replace("]", ""),
        result=found.result.model_copy(update={"run_id": run_id}),
    )


def target(server, alias="champion"):
    return open_target(f"mlflow:{server}", TargetOptions(alias=alias))


def another(package, *waived):
    """The same model, let go by a waiver, of a run with fewer files: another package."""
    return replace(package, waived=waived, folder=package.folder / "models")


def aliases(client, package):
    found = client.get_registered_model(package.name).aliases
    return {alias: int(version) for alias, version in found.items()}


def versions(client, package):
    return client.search_model_versions(f"name='{package.name}'")


def uploaded(client, package):
    """The package's run, and its logged models."""
    (version, *_) = versions(client, package)
    run = client.get_run(version.run_id)
    filter_string = f"source_run_id = '{run.info.run_id}'"
    found = client.search_logged_models([run.info.experiment_id], filter_string=filter_string)
    return run, found


def interposed(monkeypatch, method, before=None, after=None):
    """Do something once, just before or after a real call of MLflow's client."""
    real = getattr(CLIENT, method)

    def call(self, *args, **kwargs):
        monkeypatch.setattr(CLIENT, method, real)
        if before is not None:
            before()
        found = real(self, *args, **kwargs)
        if after is not None:
            after()
        return found

    monkeypatch.setattr(CLIENT, method, call)


def interrupt():
    raise KeyboardInterrupt


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


def second(server, client, package):
    """Versions 1, the champion, and 2, which is none; what another client would move to 2."""
    target(server).promote(package)
    (version,) = versions(client, package)
    model_id = version.source.rpartition("/")[2]
    made = client.create_model_version(
        package.name, version.source, version.run_id, model_id=model_id
    )
    assert int(made.version) == 2
    return lambda: CLIENT(tracking_uri=server).set_registered_model_alias(
        package.name, "champion", "2"
    )


def test_an_alias_that_is_moved_during_the_upload_is_left_there(
    server, client, package, monkeypatch
):
    theirs = second(server, client, package)
    interposed(monkeypatch, "create_model_version", after=theirs)
    newer = another(package, "slow")
    with pytest.raises(StoreError, match=r"moved while this was promoted.*got version 2"):
        target(server).promote(newer)
    assert aliases(client, package) == {"champion": 2}
    assert target(server).plan(newer)[0] == "move alias champion from version 2 to version 3"
    target(server).promote(newer)
    assert aliases(client, package) == {"champion": 3, "previous": 2}


def test_an_alias_that_is_moved_on_right_after_us_is_left_there(
    server, client, package, monkeypatch
):
    theirs = second(server, client, package)
    real = CLIENT.set_registered_model_alias

    def ours(self, name, alias, version):
        real(self, name, alias, version)
        if alias == "champion" and version == "3":
            theirs()

    monkeypatch.setattr(CLIENT, "set_registered_model_alias", ours)
    with pytest.raises(StoreError, match=r"moved on right away.*got version 2"):
        target(server).promote(another(package, "outrun"))
    assert aliases(client, package) == {"champion": 2, "previous": 1}


def test_of_two_who_move_an_alias_at_once_one_at_least_is_told(
    server, client, package, monkeypatch
):
    """The other one does all of it just before one of our calls: before each of them."""
    second(server, client, package)
    nowhere = Standing()
    other, told = CLIENT(tracking_uri=server), []

    def move(mover, version):
        try:
            move_alias(mover, package.name, "champion", version, nowhere)
        except StoreError:
            told.append(version)

    names = ("set_registered_model_tag", "get_registered_model", "set_registered_model_alias")
    for turn in itertools.count():
        client.delete_registered_model_alias(package.name, "champion")
        told.clear()
        made = itertools.count()
        for name in names:
            real = getattr(CLIENT, name)

            def counted(*args, real=real, made=made, turn=turn):
                if next(made) == turn:
                    move(other, 2)
                return real(client, *args)

            monkeypatch.setattr(client, name, counted)
        move(client, 1)
        if next(made) <= turn:  # the other one had no turn
            break
        assert told
        assert aliases(other, package)["champion"] in {1, 2}
    assert turn >= 4


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_who_promote_the_same_at_once_make_one_version(
    server, client, package, monkeypatch, when
):
    second(server, client, package)
    theirs = {when: lambda: target(server).promote(newer)}
    interposed(monkeypatch, "create_model_version", **theirs)
    newer = another(package, "the same by two")
    assert target(server).promote(newer)[-1] == "kept version 1 as alias previous"
    assert aliases(client, package) == {"champion": 3, "previous": 1}
    assert len(versions(client, package)) == 3
    assert target(server).plan(newer) == ()


def test_a_server_that_is_not_there_is_one_message(server, package, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match="cannot be reached") as raised:
        target("http://user:secret@127.0.0.1:9").plan(package)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked += 1
        code, content = self.server.answer
        self.send_response(code)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def other_server():
    """A server that answers everything in one way."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as found:
        found.asked = 0
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


DENIED = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"}).encode()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((404, b"<html>\nnothing"), "not as an MLflow 3 server"),
        ((200, b"<html>\nhello"), "not as an MLflow 3 server"),
        ((401, b"You are not authenticated."), "does not let you"),
        ((403, DENIED), "does not let you"),
    ],
)
def test_a_server_that_refuses_is_one_message(package, other_server, answer, problem):
    other_server.answer = answer
    with pytest.raises(StoreError, match=problem) as raised:
        target(f"http://127.0.0.1:{other_server.server_port}").plan(package)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("retries", "asked"), [(None, 3), ("0", 1)])
def test_it_is_tried_a_few_times_or_as_often_as_the_user_says(
    package, other_server, monkeypatch, retries, asked, capfd
):
    other_server.answer = (503, b"")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    if retries is not None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    with pytest.raises(StoreError):
        target(f"http://127.0.0.1:{other_server.server_port}").promote(package)
    assert other_server.asked == asked
    assert capfd.readouterr() == ("", "")
    assert os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") == retries


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


@pytest.mark.parametrize("alias", ["latest", "Latest", "v3", "V12", "", "a b", "previous", "ä"])
def test_reserved_and_impossible_aliases_are_refused_beforehand(alias):
    with pytest.raises(ConfigError, match="--alias"):
        open_target("mlflow:http://127.0.0.1:9", TargetOptions(alias=alias))


@pytest.mark.parametrize(
    "uri",
    ["mlflow:", "mlflow:somewhere", "mlflow:http://", "mlflow:ftp://host", "mlflow:http://[1"],
)
def test_what_is_no_server_is_refused_beforehand(uri):
    with pytest.raises(ConfigError):
        open_target(uri, TargetOptions())


def test_mlflows_own_variable_names_the_server(server, package, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert open_target("mlflow:", TargetOptions()).plan(package)


def test_a_database_without_what_opens_it_is_refused_beforehand(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"needs more.*pip install .mlflow>="):
        open_target("mlflow:sqlite:///mlflow.db", TargetOptions())


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


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", ".."])
def test_names_that_mlflow_does_not_take_are_refused_beforehand(package, name):
    with pytest.raises(ConfigError, match="no name for MLflow"):
        target("http://127.0.0.1:9").plan(replace(package, name=name))


def test_telemetry_is_off_unless_the_user_says_otherwise(monkeypatch):
    with mlflow_quiet():
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    with mlflow_quiet():
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
