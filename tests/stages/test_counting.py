"""`--jobs`: several processes share the pass, and nothing else differs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import execution_checks as checks
import models
import onnx
import pytest
import yaml
from small import ROOT, config

from calib.calibrators.statistics_file import merge_files, save_statistics
from calib.config import load_experiment
from calib.errors import BackendError, DataError
from calib.pipeline import run_calibration, run_experiment
from calib.progress import Silent
from calib.stages.counting import counting_workers
from calib.stages.shard import Shard

QUICK = (
    "throughput.batch_sizes=[]",
    "engines.fp16=false",
    "analysis.layer_samples=0",
    "calibration.calibrators=[{kind: minmax}]",
)
LOADER = """
import os, signal, sys, time
import numpy as np
from pathlib import Path
from data_loaders import DataError

def samples(count, seed, harm=""):
    print("a loader that prints")
    rng = np.random.default_rng(seed)
    for index in range(count):
        if index == 40 and sys.argv[0].endswith("worker.py"):
            if harm == "fault":
                raise ValueError("no such picture")
            if harm == "bad data":
                raise DataError("row 40", "is torn", got=3, expected="4", fix="Mend it.")
            if harm == "killed once" and not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if harm == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if harm == "hangs":
                Path(f"hangs-{os.getpid()}").touch()
                time.sleep(600)
        yield {"inputs": {"x": rng.normal(size=%d).astype(np.float32)}, "label": index %% 3}
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A model, and data from a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_loader", raising=False)
    onnx.save(models.mlp(), "model.onnx")
    Path("own_loader.py").write_text(LOADER % models.FEATURES, encoding="utf-8")
    content = config()
    for seed, name in enumerate(("calibration", "validation")):
        arguments = {"count": 112, "seed": seed}
        content["data"][name] = {
            "kind": "python",
            "entry": "own_loader:samples",
            "args": arguments,
        }
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def experiment(*overrides):
    return load_experiment(Path("config.yaml"), [*QUICK, *overrides])


def counted(name, *overrides, shard=None, jobs=None):
    target = Path(name)
    store = f"output.store={target.stem}-store"
    run_calibration(experiment(store, *overrides), Silent(), shard or Shard(), target, jobs)
    return target.read_bytes()


def test_three_processes_count_to_the_bytes_of_one(loaded):
    alone = counted("one.npz")
    # One of them is killed halfway, and its share counted again.
    assert counted("three.npz", "data.calibration.args.harm=killed once", jobs=3) == alone
    assert Path("killed").exists()
    assert counted("grouped.npz", "calibration.memory_mb=0.005", jobs=2) == alone


def test_a_run_of_several_processes_finds_what_that_of_one_finds(loaded):
    one, two = (
        run_experiment(experiment(f"output.store=store-{jobs}"), Silent(), jobs).result
        for jobs in (1, 2)
    )
    alone, shared = (checks.kept(Path(f"store-{jobs}")) for jobs in (1, 2))
    assert shared == alone
    assert len(alone) == 1 + 2 * 7
    assert one.calibration.activations == two.calibration.activations
    assert one.verdict == two.verdict
    assert [c.model_sha256 for c in one.candidates] == [c.model_sha256 for c in two.candidates]
    assert (two.calibration.passes, two.calibration.samples) == (1, 112)
    assert 0 < two.calibration.inference_seconds < two.calibration.seconds


def test_a_shard_may_be_shared_by_processes_too(loaded):
    counted("a.npz", shard=Shard(1, 2), jobs=2)
    counted("b.npz", shard=Shard(2, 2))
    save_statistics(Path("both.npz"), merge_files([Path("a.npz"), Path("b.npz")]))
    assert Path("both.npz").read_bytes() == counted("whole.npz")


def test_shards_of_a_shard_have_its_batches_once():
    shard = Shard(2, 3)
    parts = shard.split(4)
    for batch in range(60):
        assert sum(part.has(batch) for part in parts) == shard.has(batch)


@pytest.mark.parametrize(
    ("jobs", "batches", "of", "samples", "wanted"),
    [
        (4, 9, 1, "all", 4),
        (64, 2, 1, "all", 2),
        (4, 9, 5, "all", 2),
        (4, 9, 1, "auto", 1),
        (4, 1, 3, "all", 1),
    ],
)
def test_no_process_is_without_a_batch_and_auto_takes_one(jobs, batches, of, samples, wanted):
    bench = SimpleNamespace(executor=SimpleNamespace(workers=jobs))
    bench.experiment = SimpleNamespace(calibration=SimpleNamespace(samples=samples))
    inputs = SimpleNamespace(calibration=SimpleNamespace(batch_count=batches))
    assert counting_workers(bench, inputs, Shard(1, of)) == wanted


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        ("fault", BackendError, r"execution: shard . of 2 ended .*ValueError: no such picture"),
        ("bad data", DataError, r"row 40: is torn \(got 3; expected 4\)\. Mend it\."),
        ("killed", BackendError, r"execution: shard . of 2 was killed .*Take fewer workers"),
    ],
)
def test_what_ends_a_process_is_said_in_one_message(loaded, harm, kind, message):
    with pytest.raises(kind, match=message):
        counted("x.npz", f"data.calibration.args.harm={harm}", jobs=2)
    assert not list(Path().glob("x-store/observe/*/statistics.npz"))


@pytest.mark.parametrize(
    ("sent", "to_workers", "code"),
    [(signal.SIGINT, False, 130), (signal.SIGTERM, True, 143)],
    ids=["Ctrl-C at a terminal", "a batch system"],
)
def test_an_interrupt_ends_all_processes(loaded, sent, to_workers, code):
    command = [sys.executable, "-m", "calib", "calibrate", "config.yaml", "-o", "x.npz"]
    harm = ["--set", "data.calibration.args.harm=hangs", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *harm], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        found = []
        deadline = time.monotonic() + 60
        while len(found) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            found = list(Path().glob("hangs-*"))
        assert len(found) == 2
        for path in found if to_workers else ():
            os.kill(int(path.name.removeprefix("hangs-")), sent)
        process.send_signal(sent)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in said
    for path in found:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.removeprefix("hangs-")), 0)
