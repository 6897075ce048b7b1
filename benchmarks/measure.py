"""What a benchmark measures of a model: outputs, accuracy, latency, and how much runs in INT8."""

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx_ir.passes import common

from calib.graph.macs import macs_by_node
from calib.graph.selection_spec import WEIGHTED_OPS

Array = NDArray[Any]

RESAMPLES = 10_000
_SEED = 0
Entries = Mapping[str, str]

_EXACT: Entries = {"session.x64quantprecision": "1"}
"""INT8 dot products without saturating halfway, as CPUs without VNNI otherwise do."""
_EMULATED: Entries = {"session.disable_quant_qdq": "1"}
"""Each Q/DQ pair rounds as it says, and the operators in between compute in FP32."""
_PLAIN: Entries = {}

_FAITHFUL = (_EXACT, _EMULATED, _PLAIN)
_FAST = (_EXACT, _PLAIN)


def _session(model: Path, threads: int, ways: Sequence[Entries]) -> ort.InferenceSession:
    """The model on the CPU, fully optimized, in the first way that it loads."""
    for entries in ways:
        try:
            return _loaded(model, threads, entries)
        except Exception:  # ONNX Runtime's errors have no common base
            if entries is ways[-1]:
                raise
    raise AssertionError("there is at least one way")


def _loaded(model: Path, threads: int, entries: Entries) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def outputs(model: Path, npz: Path, batch_size: int = 16, threads: int = 2) -> dict[str, Array]:
    """Every output for all samples, by name, in exact INT8 arithmetic.

    ONNX Runtime cannot load some quantized models with exact INT8 kernels, those of its own
    quantize_static among them. Saturating kernels would cost these several dB that are not their
    quantizer's fault, so their Q/DQ pairs are computed in FP32 instead.

    Args:
        model: ONNX.
        npz: an array for each of the model's inputs, samples on axis 0; others are left alone.
        batch_size: samples at once; the last batch may be smaller.
        threads: of ONNX Runtime.
    """
    running = _session(model, threads, _FAITHFUL)
    names = [value.name for value in running.get_outputs()]
    parts = [running.run(None, feed) for feed in _feeds(running, npz, batch_size)]
    return {
        name: np.concatenate(arrays)
        for name, arrays in zip(names, zip(*parts, strict=True), strict=True)
    }


def _feeds(running: ort.InferenceSession, npz: Path, batch_size: int) -> list[dict[str, Array]]:
    with np.load(npz) as stored:
        arrays = {value.name: stored[value.name] for value in running.get_inputs()}
    count = len(next(iter(arrays.values())))
    return [
        {name: array[start : start + batch_size] for name, array in arrays.items()}
        for start in range(0, count, batch_size)
    ]


def sqnr_db(reference: Array, candidate: Array) -> float:
    """Signal-to-quantization-noise ratio over all values, in float64; inf where they are equal."""
    wide = np.asarray(reference, dtype=np.float64)
    noise = float(np.square(wide - np.asarray(candidate, dtype=np.float64)).sum())
    signal = float(np.square(wide).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")


def flip_share(reference: Array, candidate: Array) -> float:
    """Share of the positions whose argmax on the last axis differs."""
    return float((reference.argmax(axis=-1) != candidate.argmax(axis=-1)).mean())


def correct(scores: Array, labels: Array) -> NDArray[np.bool_]:
    """For each sample whether the argmax on the last axis is its label."""
    return np.asarray(scores.argmax(axis=-1) == labels, dtype=bool)


def accuracy(scores: Array, labels: Array) -> float:
    """Share of the samples whose argmax on the last axis is their label."""
    return float(correct(scores, labels).mean())


def paired_interval(reference_correct: Array, candidate_correct: Array) -> tuple[float, float]:
    """95 % bootstrap interval of the drop in accuracy in points; above 0 the candidate is worse.

    Samples are drawn with both verdicts on them, so what both get right or wrong adds no width.

    Args:
        reference_correct: for each sample whether the reference is right, or a score in [0, 1].
        candidate_correct: the same of the candidate.
    """
    drops = np.asarray(reference_correct, np.float64) - np.asarray(candidate_correct, np.float64)
    values, counts = np.unique(drops, return_counts=True)
    rng = np.random.default_rng(_SEED)
    # How often each value is drawn is multinomial: the same as drawing the samples, and fast.
    drawn = rng.multinomial(drops.size, counts / drops.size, size=RESAMPLES)
    low, high = np.quantile(drawn @ values / drops.size * 100, (0.025, 0.975))
    return float(low), float(high)


def latency_ms(
    models: Mapping[str, Path], npz: Path, batch_size: int, rounds: int, threads: int = 2
) -> dict[str, float]:
    """Median milliseconds of one batch, by name; the models take turns within every round.

    INT8 kernels are the exact ones where the model loads with them.

    Args:
        models: ONNX by name; all take the same inputs.
        npz: as for `outputs`; its first batch is what is timed.
        batch_size: samples in the batch.
        rounds: timed runs of each model, after one that is not.
        threads: of ONNX Runtime.
    """
    running = {name: _session(path, threads, _FAST) for name, path in models.items()}
    feeds = {name: _feeds(one, npz, batch_size)[0] for name, one in running.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for name, one in running.items():
        one.run(None, feeds[name])
    for number in range(rounds):
        order = list(running) if number % 2 == 0 else list(reversed(running))
        for name in order:
            begin = time.perf_counter()
            running[name].run(None, feeds[name])
            seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(found)) * 1e3 for name, found in seconds.items()}


def int8_mac_share(model: Path, npz: Path) -> float:
    """Share of the multiply-accumulates whose two operands both come from a DequantizeLinear.

    Only the operand's own producer counts: a Reshape or Transpose in between makes it FP32.

    Args:
        model: ONNX, quantized or not.
        npz: as for `outputs`; its shapes decide how the operators compare.

    Raises:
        ValueError: if the shapes of an operator cannot be inferred, or there is none.
    """
    graph = ir.load(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    weighted = [node for node in graph.graph if node.op_type in WEIGHTED_OPS]
    for number, node in enumerate(weighted):
        node.name = f"weighted_{number}"
    with np.load(npz) as stored:
        shapes = {
            n: (1, *stored[n].shape[1:]) for n in map(_name, graph.graph.inputs) if n in stored
        }
    macs = macs_by_node(graph, shapes)
    unknown = [node.op_type for node in weighted if str(node.name) not in macs]
    if unknown or not weighted:
        raise ValueError(f"{model}: shapes of {len(unknown)} of {len(weighted)} are unknown")
    quantized = sum(macs[str(node.name)] for node in weighted if _is_int8(node))
    return quantized / sum(macs.values())


def _name(value: ir.Value) -> str:
    return str(value.name)


def _is_int8(node: ir.Node) -> bool:
    return all(_producer(value) == "DequantizeLinear" for value in node.inputs[:2])


def _producer(value: ir.Value | None) -> str | None:
    node = None if value is None else value.producer()
    return None if node is None else node.op_type


def read_text_lines(logits: Array, blank: int = 0) -> list[tuple[int, ...]]:
    """Each line's classes by greedy CTC decoding: repeats are one, then blanks go.

    Args:
        logits: (lines, steps, classes); probabilities do as well.
        blank: the class that stands for nothing.
    """
    return [
        tuple(key for key, _ in groupby(steps.tolist()) if key != blank)
        for steps in logits.argmax(axis=-1)
    ]


def mask_iou(reference: Array, candidate: Array, threshold: float = 0.3) -> float:
    """Intersection over union of what is above the threshold, over all values; 1 if nothing is."""
    one, two = np.asarray(reference) > threshold, np.asarray(candidate) > threshold
    union = int((one | two).sum())
    return int((one & two).sum()) / union if union else 1.0
