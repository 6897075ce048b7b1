"""The jobs for Slurm and Kubernetes do what they say: each of their command lines is run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import models
import numpy as np
import onnx
import pytest
import yaml
from small import ROOT, config
from warm_calib import warm_calib

from calib.config import load_experiment
from calib.pipeline import run_calibration
from calib.progress import Silent
from calib.stages.shard import Shard

SLURM = ROOT / "examples" / "slurm"
JOBS = ROOT / "examples" / "kubernetes" / "calibrate-job.yaml"
BESIDE = Path(sys.executable).parent
# What stands in for Slurm runs a job at once, every task of an array with its own number, and as
# Slurm does from a copy of the script. `srun` starts a job's step: here, where it is.
SBATCH = """#!/usr/bin/env bash
set -euo pipefail
count=$(cat jobs 2>/dev/null || echo 100)
echo $((count + 1)) >jobs
tasks=none
while [ "${1#--}" != "$1" ]; do
    case $1 in --array=*) tasks=$(seq -s ' ' "${1#--array=1-}") ;; esac
    echo "$1" >>options
    shift
done
cp "$1" spooled
for task in $tasks; do
    env ${tasks:+SLURM_ARRAY_TASK_ID=$task} bash spooled >>output 2>&1
done
echo "$((count + 1));cluster"
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """A PATH with `calib`, `sbatch` and `srun`."""
    folder = tmp_path_factory.mktemp("commands")
    with warm_calib(folder) as found:
        for name, text in (("sbatch", SBATCH), ("srun", '#!/bin/sh\nexec "$@"\n')):
            (found / name).write_text(text, encoding="utf-8")
            (found / name).chmod(0o755)
        yield f"{found}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small experiment, and the statistics that one process makes of it."""
    folder = tmp_path_factory.mktemp("original")
    content = config()
    content["calibration"] = {"calibrators": [{"kind": "minmax"}]}
    content["throughput"] = {"batch_sizes": []}
    content["engines"] = {"fp16": False}
    content["analysis"] = {"layer_samples": 0}
    content["backend"] = {"kind": "onnxruntime", "threads": 1}
    onnx.save(models.mlp(), folder / "model.onnx")
    rng = np.random.default_rng(7)
    for name, count in (("calibration", 80), ("validation", 120)):
        x = rng.normal(size=(count, models.FEATURES)).astype(np.float32)
        label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
        np.savez(folder / f"{name}.npz", x=x, label=label)
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    here = Path.cwd()
    os.chdir(folder)
    try:
        experiment = load_experiment(Path("config.yaml"), ["output.store=one"])
        run_calibration(experiment, Silent(), Shard(), folder / "one.npz")
    finally:
        os.chdir(here)
    shutil.rmtree(folder / "one")
    return folder


@pytest.fixture
def place(original, tmp_path, monkeypatch):
    """A fresh copy of it; it is the current directory."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, path, **environment):
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_slurm_jobs_end_with_the_bytes_of_one_process_and_a_verdict(place, commands):
    code, said = run([SLURM / "submit.sh", "config.yaml", "2", "--partition=cpu"], commands)
    output = Path("output").read_text(encoding="utf-8")
    assert code == 0, said + output
    assert said.strip() == "shards: job 101, merge and run: job 102"
    options = Path("options").read_text(encoding="utf-8").split()
    assert options[:3] == ["--parsable", "--array=1-2", "--partition=cpu"]
    assert options[3:5] == ["--parsable", "--dependency=afterok:101"]
    merged = Path("shards/statistics.npz")
    assert merged.read_bytes() == Path("one.npz").read_bytes()
    assert len(list(Path("shards").glob("?-of-2.npz"))) == 2
    assert "PASS" in output
    assert list(Path("reports/small").glob("2*/report.html"))


def test_a_shard_that_fails_fails_its_job_and_nothing_is_merged(place, commands):
    Path("calibration.npz").unlink()
    code, _ = run([SLURM / "submit.sh", "config.yaml", "1"], commands)
    assert code == 2
    assert "calibration.npz" in Path("output").read_text(encoding="utf-8")
    assert not Path("shards/statistics.npz").exists()


@pytest.mark.parametrize("script", sorted(SLURM.iterdir()), ids=lambda path: path.name)
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(
        [BESIDE / "shellcheck", "--shell=bash", "--severity=style", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def jobs():
    return {job["metadata"]["name"]: job for job in yaml.safe_load_all(JOBS.read_text("utf-8"))}


def containers(job, kind="containers"):
    return {c["name"]: c for c in job["spec"]["template"]["spec"][kind]}


def test_the_jobs_are_what_kubernetes_takes():
    for job in jobs().values():
        for version in ("1.31", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(job, version, strict=True)


def test_there_are_as_many_pods_as_shards_and_each_may_write_only_its_volumes():
    shards = jobs()["calib-shards"]["spec"]
    assert shards["completions"] == shards["parallelism"]
    for job in jobs().values():
        pod = job["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            environment = {e["name"]: e["value"] for e in container["env"]}
            assert environment["CALIB_SHARDS"] == str(shards["completions"])
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["image"].rpartition(":")[2] != "latest"
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_kubernetes_jobs_end_with_the_bytes_of_one_process(place, commands):
    found = jobs()
    shard = containers(found["calib-shards"])["calib"]
    merge = containers(found["calib-run"], "initContainers")["merge"]
    last = containers(found["calib-run"])["calib"]
    settings = {e["name"]: e["value"] for e in shard["env"]} | {"CALIB_SHARDS": "2"}

    def step(container, **more):
        assert container["workingDir"] == "/work"
        return run([*container["command"], *container["args"]], commands, **settings, **more)

    for index in ("1", "0"):
        code, said = step(shard, JOB_COMPLETION_INDEX=index)
        assert code == 0, said
    assert step(merge)[0] == 0
    assert Path("shards/statistics.npz").read_bytes() == Path("one.npz").read_bytes()
    # The last line is the one that the test of Slurm's jobs has run.
    (line,) = last["args"]
    assert line.replace("exec calib", "srun calib") in (SLURM / "run.sbatch").read_text("utf-8")
