"""`calib doctor --health`: what every run needs is tried; nothing is left behind."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from small import ROOT

from calib import health as module
from calib.cli import main
from calib.graph.smallest import INPUT, OUTPUT, WEIGHTS, smallest_model
from calib.health import health

Usage = namedtuple("Usage", ["total", "used", "free"])
BARE = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}


def failed(store):
    return {check.name: check.found for check in health(store) if not check.ok}


def test_all_is_well_where_a_run_would_work_and_nothing_is_left(tmp_path):
    assert failed(tmp_path / "reports" / ".store") == {}
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_valid_and_computes_what_the_reference_says():
    model = onnx.load_from_string(smallest_model())
    onnx.checker.check_model(model, full_check=True)
    values = np.array([[255, 255, 255, 255]], np.uint8)
    (found,) = ReferenceEvaluator(model).run([OUTPUT], {INPUT: values})
    np.testing.assert_array_equal(found, 255 * WEIGHTS.astype(np.int64).sum(axis=0)[None])


def test_a_store_that_cannot_be_written_is_told():
    found = failed(Path("/proc/nowhere/.store"))
    assert "/proc/nowhere/.store" in found["store"]


def test_too_little_disk_or_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 3 * 2**20))
    monkeypatch.setattr(module, "available_bytes", lambda: 5 * 2**20)
    found = failed(tmp_path)
    assert found["disk"].startswith("3 MB free")
    assert found["memory"].startswith("5 MB available")


def test_a_backend_that_computes_something_else_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS", WEIGHTS + 1)
    assert "onnxruntime computes" in failed(tmp_path)["backend"]


def test_a_backend_that_does_not_load_a_model_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "smallest_model", lambda: b"torn")
    assert "backend" in failed(tmp_path)


def test_no_place_for_temporary_files_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "no place for temporary files" in failed(tmp_path)["backend"]


@pytest.mark.parametrize(("store", "code"), [("new/.store", 0), ("/proc/nowhere/.store", 1)])
def test_the_command_says_it_in_json_and_in_its_exit_code(
    tmp_path, monkeypatch, capsys, store, code
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["calib", "doctor", "--health", "--json", "--store", store])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is (code == 0)
    names = [check["name"] for check in said["checks"]]
    assert names == ["backend", "store", "disk", "memory"]


def test_the_diagnosis_can_be_had_as_json(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["calib", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    kinds = [backend["kind"] for backend in said["backends"]]
    assert kinds == ["tensorrt", "tensorrt_rtx", "onnxruntime"]


def test_nothing_is_told_to_anybody_and_no_home_is_needed(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "import calib.backends.onnxruntime as b, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for environment in (BARE, {**BARE, **home}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "1"
    # ONNX Runtime would keep a number for this machine in its user's cache.
    assert not list(tmp_path.rglob("*onnxruntime*"))
