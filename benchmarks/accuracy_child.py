"""What calibrating, or plain FP32 inference, costs in a process of its own.

Arguments: `calibrate` and a config, or `infer`, a model and an .npz; then the file to write.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

BATCH = 16


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


class Clock:
    """A run's progress; it stops the clock where the first engine is validated.

    Until there the run has read the data, calibrated, and written the INT8 model.
    """

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.cost: dict[str, float] = {}
        self.stages: dict[str, float] = {}

    def stop(self) -> None:
        """Keep what the run has cost so far, once."""
        if not self.cost:
            seconds = time.perf_counter() - self.begin
            self.cost = {"seconds": seconds, "peak_bytes": peak_bytes()}

    @contextmanager
    def stage(self, title: str, _: int | None) -> Iterator[Any]:
        """See `calib.progress.Progress.stage`."""
        if title.startswith("validate "):
            self.stop()
        begin = time.perf_counter()
        yield lambda _: None
        if not self.cost:
            self.stages[title] = time.perf_counter() - begin

    def note(self, text: str) -> None:
        """See `calib.progress.Progress.note`."""


def calibrate(config: str) -> dict[str, Any]:
    """Run an experiment: what calibrating cost, and where the report lies."""
    from calib.config import load_experiment
    from calib.pipeline import run_experiment

    experiment = load_experiment(Path(config))
    clock = Clock()
    done = run_experiment(experiment, clock)
    clock.stop()
    return {**clock.cost, "stages": clock.stages, "directory": str(done.directory)}


def infer(model: str, npz: str) -> dict[str, Any]:
    """One pass of ONNX Runtime over all samples, the arrays in memory as calib has them."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    running = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(npz) as stored:
        arrays = {value.name: stored[value.name] for value in running.get_inputs()}
    count = len(next(iter(arrays.values())))
    feeds = [
        {name: array[start : start + BATCH] for name, array in arrays.items()}
        for start in range(0, count, BATCH)
    ]
    running.run(None, feeds[0])
    begin = time.perf_counter()
    for feed in feeds:
        running.run(None, feed)
    return {"seconds": time.perf_counter() - begin, "peak_bytes": peak_bytes()}


if __name__ == "__main__":
    what, *arguments, out = sys.argv[1:]
    found = calibrate(*arguments) if what == "calibrate" else infer(*arguments)
    Path(out).write_text(json.dumps(found))
