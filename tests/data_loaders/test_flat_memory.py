"""What a stream holds does not grow with it: a fresh process reads little and much."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

READER = """
import re, sys
from pathlib import Path
from pydantic import TypeAdapter
from data_loaders import DataSpec, data_set_from_spec

def peak():  # in KiB, of this process alone: what getrusage says includes the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

kind, path = sys.argv[1:]
rows = {"kind": kind, "path": path}
content = {"kind": "columns", "rows": rows, "inputs": {"x": "x" if kind == "file" else "x.npy"}}
data = data_set_from_spec(TypeAdapter(DataSpec).validate_python(content))
count = size = 0
for sample in data:
    count, size = count + 1, size + sample.inputs["x"].nbytes
    if count == 50:
        early = peak()
print(count, size, early, peak())
"""
SAMPLES, VALUES = 400, 2**17  # half a megabyte each, 210 MB in all


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    block = np.random.default_rng(0).normal(size=VALUES + SAMPLES).astype(np.float32)
    kind = pa.list_(pa.float32(), VALUES)
    with pq.ParquetWriter(
        folder / "a.parquet", pa.schema({"x": kind}), compression="none", use_dictionary=False
    ) as writer:
        # One row group: whoever reads it whole holds 210 MB.
        flat = np.concatenate([block[i : i + VALUES] for i in range(SAMPLES)])
        column = pa.FixedSizeListArray.from_arrays(pa.array(flat), VALUES)
        writer.write_table(pa.table({"x": column}), row_group_size=SAMPLES)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for i in range(SAMPLES):
            stream = io.BytesIO()
            np.save(stream, block[i : i + VALUES])
            info = tarfile.TarInfo(f"{i:06d}.x.npy")
            info.size = stream.tell()
            stream.seek(0)
            tar.addfile(info, stream)
    return folder


@pytest.mark.parametrize("where", ["local", "http"])
@pytest.mark.parametrize(("kind", "name"), [("file", "a.parquet"), ("webdataset", "a.tar")])
def test_a_stream_of_200_mb_is_read_in_a_quarter_of_it(folder, server, kind, name, where):
    server.folder = folder
    path = f"{server.url}/{name}" if where == "http" else str(folder / name)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", READER, kind, path],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        timeout=120,
    )
    count, size, early, late = map(int, done.stdout.split())
    assert (count, size) == (SAMPLES, SAMPLES * VALUES * 4)
    assert (late - early) * 1024 < size / 4
    assert late * 1024 < size * 1.7, "the interpreter and its packages among it"
