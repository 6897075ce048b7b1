"""MLflow: what is refused, with one message, and what is quiet."""

import json
import os
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow_steps import target

from calib.errors import ConfigError, StoreError
from calib.promotion.mlflow import open_target
from calib.promotion.mlflow.connection import mlflow_quiet
from calib.promotion.target import TargetOptions

pytestmark = pytest.mark.usefixtures("own_settings")


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


def test_a_database_without_what_opens_it_is_refused_beforehand(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"needs more.*pip install .mlflow>="):
        open_target("mlflow:sqlite:///mlflow.db", TargetOptions())


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
