"""One quantization by a peer, in its own environment: a model, and a line of JSON with its cost.

Needs numpy, onnx and onnxruntime only, and modelopt or nncf for its methods. Each tool chooses
itself which tensors it quantizes.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

MIN_OPSET = 13
"""Per-channel QuantizeLinear exists from here on."""
OPSET = 17
"""What an older model is converted to."""
MAX_DROP = 0.01
SMOOTH_QUANT_ALPHA = 0.95


class Samples:
    """The calibration arrays that the model takes, in batches."""

    def __init__(self, model, calibration, batch_size):
        stored = np.load(calibration)
        values = {value.name: value for value in _inputs(model)}
        self.arrays = {name: stored[name] for name in values}
        self.count = len(next(iter(self.arrays.values())))
        fixed = _fixed_batch(next(iter(values.values())))
        self.smallest = fixed or 1
        # Histograms cannot be made of batches of unlike sizes: all are of one.
        sizes = range(min(batch_size, self.count), 0, -1)
        self.size = fixed or next(n for n in sizes if self.count % n == 0)

    def batches(self, size):
        """The whole batches by input name."""
        return [
            {name: array[start : start + size] for name, array in self.arrays.items()}
            for start in range(0, self.count - size + 1, size)
        ]


class Reader:
    """Batches one at a time, as onnxruntime and ModelOpt ask for them."""

    def __init__(self, batches):
        self._batches = batches
        self.rewind()

    def get_next(self):
        """The next batch by input name; None at the end."""
        return next(self._iterator, None)

    def rewind(self):
        """Start again."""
        self._iterator = iter(self._batches)

    def get_first(self):
        """The first batch by input name: ModelOpt asks for it."""
        return self._batches[0]

    def set_range(self, start_index, end_index):
        """Start again, with these only."""
        self._iterator = iter(self._batches[start_index:end_index])

    def __len__(self):
        return len(self._batches)


def _inputs(model):
    constants = {i.name for i in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _fixed_batch(value):
    """The size of the first axis where the model fixes it, else 0; Paddle writes any size as -1."""
    sizes = value.type.tensor_type.shape.dim
    return max(sizes[0].dim_value, 0) if sizes else 0


def at_opset(model, folder):
    """The path of the model, or of a copy at a newer opset where its own is too old."""
    proto = onnx.load(model)
    opset = next(i.version for i in proto.opset_import if i.domain in ("", "ai.onnx"))
    if opset >= MIN_OPSET:
        return model
    path = f"{folder}/converted.onnx"
    onnx.save(onnx.version_converter.convert_version(proto, OPSET), path)
    return path


def by_onnxruntime(model, samples, method, target, folder, _):
    """quantize_static after its own pre-processing, symmetric INT8 as TensorRT takes it.

    `<method>-weighted` quantizes the inputs of operators with weights only, as onnxruntime's
    example of BERT for TensorRT does with MatMul.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{folder}/prepared.onnx"
    try:
        quant_pre_process(model, prepared)
    except Exception:  # its symbolic shape inference knows few graphs; ONNX's own has to do then
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
    method, _, only = method.partition("-")
    operators = ["MatMul", "Gemm", "Conv", "ConvTranspose"] if only else None
    quantize_static(
        prepared,
        target,
        Reader(samples.batches(samples.size)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        op_types_to_quantize=operators,
        extra_options={
            # TensorRT takes neither zero points nor an INT32 bias.
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": operators or [],
            # One batch of activations in memory, not all: for histograms too, despite the name.
            "CalibStridedMinMax": 1,
        },
    )


def by_modelopt(model, samples, method, target, *_):
    """ModelOpt's INT8; what is not quantized stays in FP32."""
    from modelopt.onnx.quantization import quantize

    quantize(
        model,
        quantize_mode="int8",
        calibration_method=method,
        calibration_data_reader=Reader(samples.batches(samples.size)),
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=target,
        log_level="ERROR",
    )


def by_nncf(model, samples, method, target, _, kind):
    """NNCF; it takes samples one by one, as its documentation advises."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

    proto = onnx.load(model)
    items = samples.batches(samples.smallest)
    advanced = nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=SMOOTH_QUANT_ALPHA)
    )
    options = {
        "preset": nncf.QuantizationPreset.MIXED
        if method == "mixed"
        else nncf.QuantizationPreset.PERFORMANCE,
        "model_type": nncf.ModelType.TRANSFORMER if kind == "transformer" else None,
        "subset_size": len(items),
        "fast_bias_correction": True,
    }
    if method == "accuracy_control":
        expected = [scores.argmax(axis=-1) for scores in _scores(proto, items)]
        quantized = nncf.quantize_with_accuracy_control(
            proto,
            calibration_dataset=nncf.Dataset(items),
            validation_dataset=nncf.Dataset(list(zip(items, expected, strict=True))),
            validation_fn=_agreement,
            max_drop=MAX_DROP,
            advanced_quantization_parameters=advanced,
            **options,
        )
    else:
        quantized = nncf.quantize(
            proto, nncf.Dataset(items), advanced_parameters=advanced, **options
        )
    onnx.save(quantized, target)


def _agreement(model, pairs):
    """Share of the positions whose class is FP32's: of all items, and of each."""
    items, expected = zip(*pairs, strict=True)
    found = (scores.argmax(axis=-1) for scores in _scores(model, items))
    shares = [float((one == two).mean()) for one, two in zip(found, expected, strict=True)]
    return float(np.mean(shares)), shares


def _scores(model, items):
    """The model's first output for each item."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    first = session.get_outputs()[0].name
    return (session.run([first], item)[0] for item in items)


TOOLS = {
    "onnxruntime": (by_onnxruntime, "onnxruntime.quantization.shape_inference"),
    "modelopt": (by_modelopt, "modelopt.onnx.quantization"),
    "nncf": (by_nncf, "nncf.onnx.quantization.quantize_model"),
}
"""How each quantizes, and what is imported before the clock starts."""


def _killed_first():
    """Where memory runs out, this process goes and not another one."""
    path = Path("/proc/self/oom_score_adj")
    if path.exists():
        path.write_text("1000")


def main():
    """Arguments: tool, method, model, samples (.npz), target, batch size, kind, file to write."""
    tool, method, model, calibration, target, batch_size, kind, out = sys.argv[1:]
    _killed_first()
    os.environ["NNCF_CI"] = "1"  # without telemetry
    quantize, module = TOOLS[tool]
    importlib.import_module(module)
    samples = Samples(onnx.load(model, load_external_data=False), calibration, int(batch_size))
    with tempfile.TemporaryDirectory() as folder:
        # Some tools write to the file that they are given.
        own = shutil.copy(model, folder)
        begin = time.perf_counter()
        quantize(at_opset(own, folder), samples, method, target, folder, kind)
        seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    Path(out).write_text(json.dumps({"seconds": seconds, "peak_bytes": peak * 1024}))


main()
