"""Ray's actors do what processes do: on a real cluster of this machine, started once."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import execution_checks as checks
import models
import onnx
import psutil
import pytest
import yaml
from small import ROOT, config

from calib.config import load_experiment
from calib.errors import BackendError, ConfigError, InputError
from calib.execution import RaySpec, open_executor
from calib.execution.ray_actor import refuse_unlike
from calib.execution.ray_executor import RayExecutor
from calib.execution.ray_session import RaySession
from calib.pipeline import run_calibration, run_experiment
from calib.progress import Silent
from calib.stages.shard import Shard

QUICK = (
    "throughput.batch_sizes=[]",
    "engines.fp16=false",
    "analysis.layer_samples=0",
    "analysis.audit_samples=0",
    "calibration.calibrators=[{kind: minmax}]",
)
LOADER = """
import os, signal, time
import numpy as np
from pathlib import Path

def samples(count, seed, harm=""):
    with Path("readings").open("a") as file:
        print(os.getpid(), file=file)
    rng = np.random.default_rng(seed)
    for index in range(count):
        if index == 70 and harm == "killed" and os.getpid() != int(Path("driver").read_text()):
            if not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if index == 70 and harm == "hangs" and os.getpid() != int(Path("driver").read_text()):
            Path("hangs").touch()
            time.sleep(600)
        x = rng.normal(size=%d).astype(np.float32)
        if index == 50 and harm == "nan":
            x[:] = 3e38
        yield {"inputs": {"x": x}, "label": index %% 3}
"""


@pytest.fixture(scope="module")
def executor(cluster):
    handler = signal.getsignal(signal.SIGTERM)
    with open_executor(RaySpec(workers=2, address=cluster.address)) as executor:
        yield executor
        name = f"calib-{cluster.head_node.session_name}-*"
        assert signal.getsignal(signal.SIGTERM) is handler
    assert not list(Path(tempfile.gettempdir()).glob(name))


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A model, and data from a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rays_loader", raising=False)
    onnx.save(models.mlp(), "model.onnx")
    Path("driver").write_text(str(os.getpid()), encoding="utf-8")
    Path("rays_loader.py").write_text(LOADER % models.FEATURES, encoding="utf-8")
    content = config()
    for seed, name in enumerate(("calibration", "validation")):
        arguments = {"entry": "rays_loader:samples", "args": {"count": 112, "seed": seed}}
        content["data"][name] = {"kind": "python", **arguments}
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def experiment(store, *overrides):
    return load_experiment(Path("config.yaml"), [f"output.store={store}", *QUICK, *overrides])


def ran(store, *overrides):
    run_experiment(experiment(store, *overrides), Silent())
    return checks.kept(Path(store))


def test_actors_share_the_work(executor, tmp_path, capfd):
    checks.shares_work(executor, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_killed_actor_costs_its_shard_alone(executor, tmp_path, capfd):
    checks.does_a_dead_workers_shard_again(executor, tmp_path)
    time.sleep(0.5)  # Ray says of it what it has to say
    assert capfd.readouterr() == ("", "")


def test_a_shard_whose_actors_crash_ends_the_run(executor, tmp_path):
    message = r"shard 2 of 3: its worker died 3 times, .*worker"
    checks.ends_with_what_dies_again_and_again(executor, tmp_path, message)


def test_a_users_error_comes_out_as_in_one_process_and_ends_the_others(executor, tmp_path):
    checks.says_a_users_error_as_it_is(executor, tmp_path)


def test_a_fault_comes_out_with_its_last_words(executor, tmp_path):
    checks.says_the_last_words_of_a_fault(executor, tmp_path)


@pytest.mark.usefixtures("executor")
def test_a_run_on_actors_keeps_the_bytes_of_one_process_though_one_is_killed(loaded, cluster):
    harmed = "data.calibration.args.harm=killed"
    alone = ran("one", harmed)
    Path("readings").unlink()
    ray = f"execution={{kind: ray, workers: 2, address: '{cluster.address}'}}"
    assert ran("two", harmed, ray) == alone
    assert Path("killed").exists()
    here = str(os.getpid())
    readers = [pid for pid in Path("readings").read_text().split() if pid != here]
    # Two shards of calibration, the killed one's again, two each of FP32's and of INT8's outputs.
    assert len(readers) == 2 + 1 + 2 + 2


@pytest.mark.usefixtures("executor", "loaded")
def test_a_sample_that_fails_is_told_as_in_one_process(cluster):
    """Its batch cannot be run: the first reading does not see that."""
    ray = f"execution={{kind: ray, workers: 2, address: '{cluster.address}'}}"
    said = []
    for kind in ("execution.kind=local", ray):
        Path("driver").write_text("0", encoding="utf-8")
        made = experiment("x", "data.calibration.args.harm=nan", kind)
        with pytest.raises(InputError) as caught:
            run_calibration(made, Silent(), Shard(), Path("x.npz"))
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "row-000050" in said[0]


def test_a_lost_machine_costs_what_it_was_doing(cluster, tmp_path):
    """The last one: the cluster has a machine less from here on."""
    executor = RayExecutor(RaySpec(workers=2, address=cluster.address))
    harm = {"step": 2, "hangs": True}
    doing = checks.Doing(executor, tmp_path, {"a": harm, "b": harm})

    def lose():
        tries = [tmp_path / "tries-a", tmp_path / "tries-b"]
        while not all(path.exists() for path in tries):
            time.sleep(0.02)
        cluster.remove_node(cluster.other, allow_graceful=False)
        # The shard on the machine that is left hangs, too: kill its worker.
        time.sleep(0.5)
        for path in tries:
            for pid in path.read_text().split():
                if psutil.pid_exists(int(pid)):
                    os.kill(int(pid), signal.SIGKILL)

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        doing()
    finally:
        losing.join()
        executor.close()
    checks.whole(doing)
    assert doing.steps() == {"a": 6, "b": 6, "c": 4}


def test_a_missing_package_is_one_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"execution\.kind: ray needs a package .*pip install 'calib\[ray\]'"
    with pytest.raises(ConfigError, match=message), open_executor(RaySpec()):
        pass


def test_an_address_of_ray_client_is_refused():
    with pytest.raises(ConfigError, match=r"cannot stream results .*execution\.address=auto"):
        RayExecutor(RaySpec(address="ray://head:10001"))


@pytest.mark.usefixtures("loaded")
def test_an_interrupt_ends_ray_and_all_that_it_started():
    command = [sys.executable, "-m", "calib", "calibrate", "config.yaml", "-o", "x.npz"]
    asked = ["--set", "execution.kind=ray", "--set", "data.calibration.args.harm=hangs"]
    # A short path: sockets lie below it.
    temporary = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [*command, *asked],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        Path("driver").write_text(str(process.pid), encoding="utf-8")
        deadline = time.monotonic() + 150
        while not Path("hangs").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        began = psutil.Process(process.pid).children(recursive=True)
        folders = list(temporary.glob("calib-ray-*"))
        # As a terminal does: to all that is in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        said, complaint = process.communicate(timeout=100)
    assert Path("hangs").exists()
    assert process.returncode == 130
    assert not said
    assert b"Traceback" not in complaint
    assert len(began) > 4
    for one in began:
        checks.ended(one.pid)
    assert folders
    assert not list(temporary.glob("calib-*"))
    shutil.rmtree(temporary)


def test_a_cluster_that_cannot_be_reached_is_one_message(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # the tests' own cluster may be
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    message = rf"execution\.address: the cluster cannot be joined: .*got {address}"
    with pytest.raises(BackendError, match=message):
        RaySession(RaySpec(address=address))


def test_a_worker_of_another_make_is_refused():
    own = {"calib": "1f", "numpy": "2.1"}
    refuse_unlike(own, dict(own))
    with pytest.raises(
        BackendError, match=r"another numpy than .*got numpy 2\.0; expected numpy 2\.1"
    ):
        refuse_unlike(own, {**own, "numpy": "2.0"})
    with pytest.raises(BackendError, match="no directory /data"):
        refuse_unlike(own, {"problem": "there is no directory /data on there"})
