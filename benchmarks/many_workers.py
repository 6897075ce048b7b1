"""One pass by 1 to as many workers as this machine has cores, in processes and as Ray's actors.

    python benchmarks/many_workers.py --check

ResNet-50 with drawn weights, pictures as one array on disk, each session with one thread. Told of
each number of workers: the pass of the slowest, the whole stage with starting them, the first
reading of the data, and whether the bytes are those of one. `--check` wants the bytes the same, and
the pass at least half as fast as cores alone would make it, where there are cores enough.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import resnet  # noqa: E402
from benchmarks.scale import processor  # noqa: E402
from calib.config import Experiment  # noqa: E402
from calib.execution import ExecutionSpec, LocalSpec, RaySpec, open_executor  # noqa: E402
from calib.progress import Silent  # noqa: E402
from calib.stages.inputs import read_inputs  # noqa: E402
from calib.stages.observation import observed  # noqa: E402
from calib.stages.prepare import prepared  # noqa: E402
from calib.stages.shard import Shard  # noqa: E402
from calib.stages.workbench import open_workbench  # noqa: E402
from calib.store import sha256_from_file  # noqa: E402

BATCH = 8
EFFICIENCY_MIN = 0.5


def main() -> int:
    """Measure, print, and hold against the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", help="1 and its doubles if absent")
    parser.add_argument("--kinds", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    numbers = asked.workers or [2**k for k in range(cores.bit_length()) if 2**k <= cores]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        wanted = experiment(Path(scratch), asked.samples)
        for workers in numbers:
            for kind in asked.kinds if workers > 1 else ["local"]:
                rows.append({"kind": kind, "workers": workers, **measured(wanted, kind, workers)})
                print(rows[-1], flush=True)
    one = next((row["pass_seconds"] for row in rows if row["workers"] == 1), None)
    for row in rows:
        row["times_as_fast"] = None if one is None else one / row["pass_seconds"]
    misses = missed(rows, cores)
    for miss in misses:
        print(f"missed: {miss}")
    print(json.dumps({"processor": processor(), "cores": cores, "rows": rows}))
    return 1 if asked.check and misses else 0


def missed(rows: list[dict[str, Any]], cores: int) -> list[str]:
    """Targets that were not met, a sentence each."""
    found = []
    if len({row["sha256"] for row in rows}) > 1:
        found.append("not the same bytes for every number of workers")
    for row in rows:
        gain, workers = row["times_as_fast"], row["workers"]
        if gain is not None and workers <= cores and gain < EFFICIENCY_MIN * workers:
            found.append(f"{workers} {row['kind']} workers are {gain:.1f} times as fast as one")
    return found


def experiment(folder: Path, samples: int) -> Experiment:
    """A calibration of ResNet-50 on pictures that lie on disk as one array."""
    for split, count in (("calibration", samples), ("validation", BATCH)):
        (folder / split).mkdir()
        shape = (count, 3, resnet.SIZE, resnet.SIZE)
        pictures = np.lib.format.open_memmap(
            folder / split / "image.npy", mode="w+", dtype=np.float32, shape=shape
        )
        for row, picture in enumerate(resnet.images(count)):
            pictures[row] = picture if split == "calibration" else -picture
        pictures.flush()
    data = {
        split: {"kind": "arrays", "path": str(folder / split), "inputs": {"image": "image"}}
        for split in ("calibration", "validation")
    }
    return Experiment.model_validate(
        {
            "name": "scale",
            "model": {"kind": "onnx", "path": str(resnet.build(folder))},
            "data": {"batch_size": BATCH, **data},
            "task": {"kind": "embedding"},
            "calibration": {"calibrators": [{"kind": "minmax"}]},
            "backend": {"kind": "onnxruntime", "threads": 1},
            "output": {"reports": str(folder / "reports")},
        }
    )


def measured(wanted: Experiment, kind: str, workers: int) -> dict[str, Any]:
    """One pass from an empty store, by workers that are started for it."""
    spec: ExecutionSpec = LocalSpec(workers=workers)
    if kind == "ray":
        spec = RaySpec(workers=workers)
    with tempfile.TemporaryDirectory() as store, open_executor(spec) as executor:
        output = wanted.output.model_copy(update={"store": Path(store)})
        bench = open_workbench(wanted.model_copy(update={"output": output}), Silent(), executor)
        inputs = read_inputs(bench)
        ready = prepared(bench, inputs)
        begin = time.perf_counter()
        seen = observed(bench, inputs, ready, Shard())
        whole = time.perf_counter() - begin
        return {
            "pass_seconds": float(seen.facts.seconds or 0),
            "with_starting_seconds": whole,
            "data_seconds": sum(t.seconds for t in bench.timings if t.name == "data"),
            "sha256": sha256_from_file(seen.path)[:12],
        }


if __name__ == "__main__":
    sys.exit(main())
