"""Run by test_contract.py under the real bindings of one TensorRT version: prints what it found.

There is no engine here and none is faked: the bindings' own classes are looked at, subclassed and
driven, over libraries that hold nothing but the symbols they need to load.
"""

import ast
import json
import sys
from pathlib import Path

import tensorrt_bindings as trt

from calib.backends import cuda_timing, tensorrt_calibrator, tensorrt_timing, tensorrt_worker

# What the names of variables in our code stand for.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "_context": "IExecutionContext",
    "_trt": None,
}


def touched():
    """(owner, attribute, call or None) for every TensorRT name in our code."""
    for module in (tensorrt_worker, tensorrt_calibrator, tensorrt_timing, cuda_timing):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner = owner_of(node.value)
            if owner == "trt" or owner in CLASSES:
                yield owner, node.attr, calls.get(id(node))
            inner = node.value
            named = isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name)
            if named and inner.value.id == "trt":
                yield f"trt.{inner.attr}", node.attr, None


def owner_of(node):
    """The variable, or the attribute of self, that a name is asked of."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "self" else None
    return None


def look_up(owner):
    if owner in ("trt", "_trt"):
        return trt
    if owner.startswith("trt."):
        return getattr(trt, owner.removeprefix("trt."), None)
    return getattr(trt, CLASSES[owner])


def names():
    """Names that this version does not have, and calls that its signatures do not take."""
    missing, wrong, seen = set(), set(), set()
    for owner, name, call in touched():
        holder = look_up(owner)
        seen.add(f"{owner}.{name}")
        if holder is None or not hasattr(holder, name):
            missing.add(f"{owner}.{name}")
        elif call is not None and not fits(getattr(holder, name), call, owner):
            wrong.add(f"{owner}.{name}")
    return missing, wrong, seen


def fits(function, call, owner):
    """Whether a call's number of arguments and keywords fit one of pybind11's signatures."""
    signatures = [
        line.partition("(")[2].rpartition(") ->")[0]
        for line in (function.__doc__ or "").splitlines()
        if "(self: " in line and ") ->" in line
    ]
    if not signatures or owner == "trt":
        return True
    given, keywords = len(call.args), {keyword.arg for keyword in call.keywords}
    return any(_takes(text, given, keywords) for text in signatures)


def _takes(text, given, keywords):
    tree = ast.parse(f"def f({_plain(text)}): ...").body[0].args
    known = [argument.arg for argument in tree.args][1:]
    required = len(known) - len(tree.defaults)
    return given <= len(known) and keywords <= set(known) and given + len(keywords) >= required


def _plain(text):
    """Parameter names and defaults alone: pybind11's types are not all Python."""
    parts, depth, part = [], 0, ""
    for letter in text + ",":
        depth += letter in "[(<{"
        depth -= letter in "])>}"
        if letter == "," and depth == 0:
            name = part.split(":")[0].split("=")[0].strip()
            parts.append(f"{name}=None" if "=" in part else name)
            part = ""
        else:
            part += letter
    return ", ".join(p for p in parts if p)


def profiler():
    """Drive the profiler as TensorRT would."""
    one = tensorrt_timing.make_profiler(trt)
    assert isinstance(one, trt.IProfiler)
    for ms in (1.0, 3.0):
        one.report_layer_time("fc1", ms)
    return one.times


def calibrators():
    """Drive the native calibrators as TensorRT would."""
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        return "none"
    found = {}
    for algorithm, base in tensorrt_calibrator.ALGORITHMS.items():
        data = iter([(4, {"x": 100, "m": 200}), (2, {"x": 101, "m": 201})])
        one = tensorrt_calibrator.make_calibrator(trt, algorithm, data, 4)
        assert isinstance(one, getattr(trt, base))
        batches = [one.get_batch(["m", "x"]), one.get_batch(["m", "x"]), one.get_batch(["m", "x"])]
        assert batches == [[200, 100], [201, 101], None], batches
        assert (one.samples, one.error, one.get_batch_size()) == (6, None, 4)
        assert one.read_calibration_cache() is None
        one.write_calibration_cache(memoryview(b"TRT-cache"))
        assert one.cache == b"TRT-cache"
        if algorithm == "legacy":
            assert 0 < one.get_quantile() <= 1
        else:
            assert "CALIBRATION" in str(one.get_algorithm())
        found[algorithm] = base
    for broken in ([(4, {"y": 1})], [(4, {"x": 0})], (1 / 0 for _ in "x")):
        one = tensorrt_calibrator.make_calibrator(trt, "entropy", iter(broken), 4)
        assert one.get_batch(["x"]) is None
        assert one.error is not None
    cached = tensorrt_calibrator.make_cache_calibrator(trt, b"TRT-8600-EntropyCalibration2\n")
    assert isinstance(cached, trt.IInt8EntropyCalibrator2)
    assert bytes(cached.read_calibration_cache()).startswith(b"TRT-")
    assert not cached.asked_for_data
    assert cached.get_batch(["x"]) is None
    assert cached.asked_for_data
    return found


def worker():
    """The parts of the worker that need no engine."""
    logger = tensorrt_worker.make_logger(trt)
    logger.log(trt.Logger.Severity.ERROR, "one")
    logger.log(trt.ILogger.Severity.VERBOSE, "Layers:\nName: x")
    assert logger.lines == [("ERROR", "one"), ("VERBOSE", "Layers:\nName: x")], logger.lines
    assert tensorrt_worker.last_errors(logger) == "one"
    monitor = tensorrt_worker.make_monitor(trt)
    assert isinstance(monitor, trt.IProgressMonitor)
    known = trt.NetworkDefinitionCreationFlag
    strong = tensorrt_worker.network_flags(trt, {"strong": True})
    assert strong & (1 << int(known.STRONGLY_TYPED))
    weak = tensorrt_worker.network_flags(trt, {"strong": False})
    assert not weak & (1 << int(known.STRONGLY_TYPED))
    try:
        trt.Builder(logger)
    except TypeError:
        return "no builder, as it should be"
    raise AssertionError("the stub libraries built something")


def main():
    """Print all of it as JSON."""
    missing, wrong, seen = names()
    facts = {
        "version": trt.__version__,
        "missing": sorted(missing),
        "wrong_calls": sorted(wrong),
        "seen": sorted(seen),
        "calibrators": calibrators(),
        "worker": worker(),
        "profiler": profiler(),
    }
    sys.stdout.write("\n" + json.dumps(facts))


if __name__ == "__main__":
    main()
