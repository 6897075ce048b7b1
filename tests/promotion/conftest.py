"""A real MLflow server with SQLite, for the tests that promote to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import mlflow
import pytest
from filelock import FileLock

from calib.promotion.promotable import Request, promotable


def started(folder):
    """A new `mlflow server`, the leader of a group of processes, and its URI."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quick = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **quick},
            start_new_session=True,
        )
    uri, ends = f"http://127.0.0.1:{port}", time.monotonic() + 180
    while time.monotonic() < ends and process.poll() is None:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()
            return {"uri": uri, "pid": process.pid}
        except OSError:
            time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server that all of pytest's workers share; the last one stops it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    state, lock = root / "mlflow.json", FileLock(root / "mlflow.lock")
    with lock:
        found = json.loads(state.read_text()) if state.exists() else {"users": 0}
        if not found["users"]:
            found |= started(tmp_path_factory.mktemp("server"))
        found["users"] += 1
        state.write_text(json.dumps(found))
    yield found["uri"]
    with lock:
        found = json.loads(state.read_text())
        found["users"] -= 1
        state.write_text(json.dumps(found))
        if not found["users"]:
            os.killpg(found["pid"], signal.SIGTERM)


@pytest.fixture
def own_settings(monkeypatch):
    """Without MLflow's settings of the machine, and with time where it has much else to do."""
    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@pytest.fixture
def client(server):
    """Of the server."""
    return mlflow.MlflowClient(tracking_uri=server)


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
