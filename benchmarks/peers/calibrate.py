"""One calibration by a peer, in its own environment: a line of JSON with what it cost.

Needs numpy, onnx and onnxruntime only, and modelopt for its methods.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    create_calibrator,
)


class Files(CalibrationDataReader):
    """Batches from .npz files, one at a time."""

    def __init__(self, paths):
        self._paths = paths
        self.rewind()

    def get_next(self):
        """The next batch by input name; None at the end."""
        path = next(self._iterator, None)
        return None if path is None else dict(np.load(path))

    def rewind(self):
        """Start again."""
        self._iterator = iter(self._paths)

    def get_first(self):
        """The first batch by input name: ModelOpt asks for it."""
        return dict(np.load(self._paths[0]))

    def __len__(self):
        return len(self._paths)


def plain(model, paths):
    """Seconds of FP32 inference of the batches, warmed up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    session.run(None, dict(np.load(paths[0])))
    begin = time.perf_counter()
    for path in paths:
        session.run(None, dict(np.load(path)))
    return time.perf_counter() - begin


def by_onnxruntime(model, paths, method):
    """Seconds, and threshold by tensor, of onnxruntime's own calibrator."""
    from onnxruntime.quantization.registry import QDQRegistry

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        calibrator = create_calibrator(
            str(model),
            list(QDQRegistry),
            augmented_model_path=f"{folder}/augmented.onnx",
            calibrate_method=CalibrationMethod[method],
        )
        calibrator.collect_data(Files(paths))
        ranges = calibrator.compute_data()
        seconds = time.perf_counter() - begin
    return seconds, {
        name: float(max(abs(data.range_value[0]), abs(data.range_value[1])).max())
        for name, data in ranges.items()
    }


def by_modelopt(model, paths, method):
    """Seconds, and threshold by tensor, of ModelOpt; it places its own Q/DQ pairs too."""
    from modelopt.onnx.quantization import quantize

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        quantize(
            str(model),
            quantize_mode="int8",
            calibration_method=method,
            calibration_data_reader=Files(paths),
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=f"{folder}/quantized.onnx",
            log_level="ERROR",
        )
        seconds = time.perf_counter() - begin
        graph = onnx.load(f"{folder}/quantized.onnx").graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return seconds, {
        node.input[0]: float(constants[node.input[1]]) * 127
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        and node.input[0] not in constants
        and constants[node.input[1]].size == 1
    }


def main():
    """Arguments: peer, method, model, folder of batches, file to write."""
    peer, method, model, folder, out = sys.argv[1:]
    paths = sorted(Path(folder).glob("*.npz"), key=lambda path: int(path.stem))
    inference = plain(model, paths)
    seconds, amax = {"onnxruntime": by_onnxruntime, "modelopt": by_modelopt}[peer](
        model, paths, method
    )
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    facts = {
        "inference_seconds": inference,
        "seconds": seconds,
        "peak_bytes": peak * 1024,
        "amax": amax,
    }
    Path(out).write_text(json.dumps(facts))


main()
