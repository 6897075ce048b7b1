"""A split's first reading, shared by workers: what one process finds, errors included."""

from pathlib import Path

import models
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small import config

from calib.config import load_experiment
from calib.errors import DataError
from calib.execution import LocalSpec
from calib.execution.local import LocalExecutor
from calib.execution.worker import handler
from calib.progress import Silent
from calib.stages import scanning
from calib.stages.scanning import scanned
from calib.stages.splits import Origin
from calib.stages.workbench import open_workbench

SAMPLES = 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(models.mlp(), "model.onnx")
    rng = np.random.default_rng(3)
    np.savez(
        "data.npz",
        x=rng.normal(size=(SAMPLES, models.FEATURES)).astype(np.float32),
        label=rng.integers(0, 3, SAMPLES),
        name=np.array([f"n{k}" for k in range(SAMPLES)]),
    )
    return tmp_path


def changed(**arrays):
    with np.load("data.npz") as found:
        np.savez("data.npz", **{**found, **arrays})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Workers take over after the first sample."""
    monkeypatch.setattr(scanning, "ALONE_SECONDS", -1.0)


class Here:
    """An executor whose three workers are this process, one after another."""

    workers = 3

    def run(self, work, folder, advance, take):
        for number, request in enumerate(work.requests):
            target = folder / str(number)
            target.mkdir()
            handler(work.handler)(request, work.model, target, advance)
            take(number, target)


def benches(executor=None, **extra):
    """The experiment's origin of validation samples, and benches of one and of three workers."""
    content = config()
    data = {"kind": "arrays", "path": "data.npz", "inputs": {"x": "x"}, "label": "label"} | extra
    content["data"]["validation"] = data
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    experiment = load_experiment(Path("config.yaml"), [])
    origin = Origin(experiment.data.validation, {"x": "float32"}, drop_not_finite=False)
    executors = (None, executor or Here())
    return origin, [open_workbench(experiment, Silent(), one) for one in executors]


def outcomes(executor=None, **extra):
    origin, both = benches(executor, **extra)
    found = []
    for bench in both:
        try:
            found.append(scanned(bench, origin, origin.unfiltered(), "data.validation"))
        except DataError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(
    "extra",
    [{}, {"skip": 3, "samples": 21}, {"id": "name", "subset": {"count": 17, "seed": 5}}],
    ids=["all of it", "a stretch", "a subset"],
)
def test_workers_find_what_one_process_finds(folder, extra):
    alone, shared = outcomes(**extra)
    assert shared == alone
    assert alone[0].samples == {"skip": 21, "id": 17}.get(next(iter(extra), ""), SAMPLES)


def test_processes_find_it_too_and_none_is_started_for_what_is_soon_read(folder, monkeypatch):
    processes = LocalExecutor(LocalSpec(workers=2))
    alone, shared = outcomes(processes)
    assert shared == alone
    monkeypatch.setattr(scanning, "ALONE_SECONDS", 60.0)
    monkeypatch.setattr(processes, "run", lambda *_: pytest.fail("workers were asked"))
    assert outcomes(processes) == [alone, alone]


def test_what_is_wrong_is_said_as_by_one_process(folder):
    x = np.load("data.npz")["x"]
    x[[2, 35]] = np.nan
    changed(x=x)
    alone, shared = outcomes()
    assert shared == alone
    assert "row-000002" in alone
    assert "row-000035" in alone


def test_an_id_that_two_stretches_have_is_refused(folder):
    names = np.load("data.npz")["name"]
    names[39] = names[0]
    changed(name=names)
    alone, shared = outcomes(id="name")
    assert shared == alone == "data.npz: two samples have the same id (got 'n0'). Make ids unique."


def test_parquet_tells_its_number_of_rows(folder):
    with np.load("data.npz") as found:
        table = pa.table({"x": list(found["x"]), "label": found["label"]})
    pq.write_table(table, "data.parquet", row_group_size=7)
    alone, shared = outcomes(path="data.parquet")
    assert shared == alone
    origin, _ = benches(path="data.parquet")
    assert origin.unfiltered().count() == SAMPLES


def test_a_source_that_must_be_read_to_be_counted_is_read_by_one_process(folder):
    rows = [f'{{"x": {list(map(float, range(models.FEATURES)))}, "label": {k}}}' for k in range(9)]
    Path("data.jsonl").write_text("\n".join(rows), encoding="utf-8")
    origin, _ = benches(path="data.jsonl")
    assert origin.unfiltered().count() is None
    alone, shared = outcomes(path="data.jsonl")
    assert shared == alone
