"""Shards whose batches lie side by side in the data: nobody reads the others' files."""

from pathlib import Path

import models
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from file_server import served
from small import config

from calib.calibrators.statistics_file import merge_files, save_statistics
from calib.config import load_experiment
from calib.pipeline import run_calibration
from calib.progress import Silent
from calib.stages.shard import Shard, pieces

FILES, ROWS = 8, 32


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """An experiment whose calibration data are parquet files of a server."""
    monkeypatch.chdir(tmp_path)
    onnx.save(models.mlp(), "model.onnx")
    rng = np.random.default_rng(11)
    for name, files in (("calibration", FILES), ("validation", 2)):
        Path(name).mkdir()
        for number in range(files):
            x = rng.normal(size=(ROWS, models.FEATURES)).astype(np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), models.FEATURES)
            table = pa.table({"x": column, "label": rng.integers(0, 3, ROWS)})
            pq.write_table(table, f"{name}/{number}.parquet")
    with served(tmp_path) as server:
        content = config()
        for name, last in (("calibration", FILES - 1), ("validation", 1)):
            url = f"{server.url}/{name}/{{0..{last}}}.parquet"
            content["data"][name] = {
                "kind": "arrays",
                "path": url,
                "inputs": {"x": "x"},
                "label": "label",
            }
        Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        yield server


def counted(target, shard):
    quick = ["calibration.calibrators=[{kind: minmax}]", f"output.store={Path(target).stem}"]
    experiment = load_experiment(Path("config.yaml"), quick)
    run_calibration(experiment, Silent(), shard, Path(target))
    return Path(target).read_bytes()


def test_shards_read_their_own_files_and_merge_to_the_bytes_of_one(remote):
    whole = counted("whole.npz", Shard())
    readings = {}
    for name, shard in (("a", Shard(1, 2)), ("b", Shard(2, 2))):
        remote.asked.clear()
        counted(f"{name}.npz", shard)
        paths = [path for _, path, _ in remote.asked if path.startswith("/calibration")]
        readings[name] = {
            number: paths.count(f"/calibration/{number}.parquet") for number in range(8)
        }
    save_statistics(Path("both.npz"), merge_files([Path("a.npz"), Path("b.npz")]))
    assert Path("both.npz").read_bytes() == whole
    # The scan reads everything; the pass itself only the shard's half, but for files' ends.
    assert readings["a"][1] > readings["a"][6]
    assert readings["b"][6] > readings["b"][1]


def test_stretches_of_all_shards_are_every_batch_once():
    for batches in (1, 7, 32, 100):
        for of in (1, 2, 3, 9):
            found = [n for k in range(of) for n in Shard(k + 1, of).stretch(batches)]
            assert found == list(range(batches))
            for parts in (1, 2, 5):
                inner = [
                    n for piece in pieces(Shard(of, of).stretch(batches), parts) for n in piece
                ]
                assert inner == list(Shard(of, of).stretch(batches))
