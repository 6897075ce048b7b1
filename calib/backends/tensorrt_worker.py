"""Builds one engine in a process of its own: `python -m calib.backends.tensorrt_worker REQUEST`.

A builder can take its process down, and an interrupt must stop it. The request is a JSON file; the
engine, the log and `result.json` are written to its folder; each line of standard output is a step
of progress. The same code serves TensorRT 8.6 to 11 and TensorRT-RTX: what a version does not have
is found out by asking for it, never by its number.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from calib.backends import tensorrt_calibrator
from calib.backends.process import own_peak_bytes
from calib.store import write_atomically

_SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
_MEMORY_LINES = {
    "weights_bytes": "Total Weights Memory: ",
    "activation_bytes": "Total Activation Memory: ",
}


class BuildError(Exception):
    """The builder refused; the message says what, in its own words."""


def build(trt: Any, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Parse, build and write `engine.plan`, `layers.txt` and `build.log` below `folder`.

    Args:
        trt: the module tensorrt or tensorrt_rtx.
        request: see `calib.backends.tensorrt_build.BuildRequest`.
        folder: an existing folder.

    Returns:
        facts for the engine's record.

    Raises:
        BuildError: with the node that the parser refuses, or the builder's last errors.
    """
    begin = time.monotonic()
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
        network = builder.create_network(network_flags(trt, request))
        parser = trt.OnnxParser(network, logger)
        parse(parser, request["model"])
        config = make_config(trt, builder, network, request)
        calibrator = calibrate_natively(trt, config, request)
        cache = load_timing_cache(config, request.get("timing_cache"))
        plan = builder.build_serialized_network(network, config)
        check_calibration(calibrator, request)
        if plan is None:
            raise BuildError(last_errors(logger) or "the builder returned nothing")
        (folder / "engine.plan").write_bytes(bytes(memoryview(plan)))
        save_timing_cache(cache, request.get("timing_cache"))
    finally:
        (folder / "build.log").write_text(
            "\n".join(f"[{severity}] {text}" for severity, text in logger.lines), encoding="utf-8"
        )
    dump = next((text for _, text in logger.lines if text.startswith("Layers:")), "")
    (folder / "layers.txt").write_text(dump, encoding="utf-8")
    if not dump and request.get("compute_capability") is None:
        inspected = inspect(trt, logger, folder / "engine.plan")
        (folder / "layers.json").write_text(inspected, encoding="utf-8")
    return {
        "seconds": time.monotonic() - begin,
        "version": str(trt.__version__),
        "peak_memory_bytes": own_peak_bytes(),
        "warnings": [text for severity, text in logger.lines if severity == "WARNING"][:50],
        **{name: bytes_from_log(logger.lines, start) for name, start in _MEMORY_LINES.items()},
    }


def inspect(trt: Any, logger: Any, plan: Path) -> str:
    """What the engine's inspector says of its layers, as JSON; empty layers if it cannot load."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        return '{"Layers": []}'
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def make_logger(trt: Any) -> Any:
    """A logger that keeps every message: (severity, text) in `lines`."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append((str(severity).rpartition(".")[2], msg))

    return Logger()


def is_strongly_typed(trt: Any, request: dict[str, Any]) -> bool:
    """Whether the graph alone says what is INT8 and FP16: asked for, and known to this version."""
    return bool(request["strong"]) and hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: Any, request: dict[str, Any]) -> int:
    """Flags for create_network: 8.6 must be told of explicit batches, 10 of strong typing."""
    known = trt.NetworkDefinitionCreationFlag
    flags = 0
    if is_strongly_typed(trt, request):
        flags |= 1 << int(known.STRONGLY_TYPED)
    if hasattr(known, "EXPLICIT_BATCH"):
        flags |= 1 << int(known.EXPLICIT_BATCH)
    return flags


def parse(parser: Any, model: str) -> None:
    """Parse from the path, so that external data is found.

    Raises:
        BuildError: naming the ONNX node.
    """
    if parser.parse_from_file(model):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    raise BuildError("; ".join(_parser_error(error) for error in errors[:3]) or "cannot be parsed")


def _parser_error(error: Any) -> str:
    name = error.node_name() if hasattr(error, "node_name") else f"number {error.node()}"
    kind = error.node_operator() if hasattr(error, "node_operator") else ""
    return f"node {name} {kind}: {error.desc()}".replace("  ", " ")


def make_config(trt: Any, builder: Any, network: Any, request: dict[str, Any]) -> Any:
    """The builder's configuration: limits, flags, targets, one profile."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.get("workspace_bytes"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace_bytes"])
    if request.get("optimization_level") is not None:
        config.builder_optimization_level = request["optimization_level"]
    if request.get("version_compatible"):
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request.get("hardware_compatible"):
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if not is_strongly_typed(trt, request):
        for precision in request["precisions"]:
            config.set_flag(getattr(trt.BuilderFlag, precision.upper()))
    if request.get("compute_capability"):
        digits = request["compute_capability"].replace(".", "")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{digits}"), 0)
    profile = make_profile(builder, network, request["profile"])
    config.add_optimization_profile(profile)
    if request.get("calibration_cache") or request.get("calibration_batches"):
        config.set_calibration_profile(profile)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = make_monitor(trt)
    return config


def make_profile(builder: Any, network: Any, shapes: dict[str, list[list[int]]]) -> Any:
    """One optimization profile from {input: [minimum, optimum, maximum]}."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        smallest, best, largest = shapes[tensor.name]
        if any(size < 0 for size in tensor.shape):
            profile.set_shape(tensor.name, smallest, best, largest)
    return profile


def make_monitor(trt: Any) -> Any:
    """Writes a line for each step of the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            _say({"phase": phase_name, "parent": parent_phase, "steps": num_steps})

        def step_complete(self, phase_name: str, step: int) -> bool:
            _say({"phase": phase_name, "step": step})
            return True

        def phase_finish(self, phase_name: str) -> None:
            _say({"phase": phase_name, "finished": True})

    return Monitor()


def _say(fact: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def calibrate_natively(trt: Any, config: Any, request: dict[str, Any]) -> Any:
    """Set a native calibrator where one is asked for: our scales as a cache, or our batches.

    Raises:
        BuildError: if this TensorRT has none.
    """
    wanted = request.get("calibration_cache") or request.get("calibration_batches")
    if not wanted:
        return None
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        raise BuildError(f"TensorRT {trt.__version__} has no calibrators; use int8: explicit")
    if request.get("calibration_cache"):
        calibrator = tensorrt_calibrator.make_cache_calibrator(trt, Path(wanted).read_bytes())
    else:
        calibrator = tensorrt_calibrator.make_calibrator(
            trt,
            request["calibration_algorithm"],
            tensorrt_calibrator.device_batches(Path(wanted)),
            request["calibration_batch_size"],
        )
    config.int8_calibrator = calibrator
    return calibrator


def check_calibration(calibrator: Any, request: dict[str, Any]) -> None:
    """Refuse an engine whose calibration broke off: TensorRT would ship it.

    Raises:
        BuildError: with the batch's own error, or how many samples were seen.
    """
    if calibrator is None:
        return
    if calibrator.error is not None:
        raise BuildError(f"calibration broke off: {calibrator.error}")
    if request.get("calibration_cache") and calibrator.asked_for_data:
        raise BuildError("TensorRT did not accept the calibration cache and asked for data")
    expected = request.get("calibration_samples", 0)
    if not request.get("calibration_cache") and calibrator.samples < expected:
        raise BuildError(f"calibration saw {calibrator.samples} of {expected} samples")


def load_timing_cache(config: Any, path: str | None) -> Any:
    """Give the builder the tactics measured before; None without a file to keep them in."""
    if path is None:
        return None
    known = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(known)
    # A cache of another device or version is not taken; the builder measures anew.
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def save_timing_cache(cache: Any, path: str | None) -> None:
    """Keep what was measured."""
    if cache is not None and path is not None:
        write_atomically(Path(path), bytes(memoryview(cache.serialize())))


def last_errors(logger: Any) -> str:
    """The last three errors of a log, in one line."""
    errors = [text for severity, text in logger.lines if severity in _SEVERITIES[:2]]
    return "; ".join(" ".join(text.split()) for text in errors[-3:])


def bytes_from_log(lines: list[tuple[str, str]], start: str) -> int | None:
    """The number of bytes in the last message that starts so."""
    found = [text.removeprefix(start) for _, text in lines if text.startswith(start)]
    return int(found[-1].split()[0]) if found else None


def main() -> None:
    """Build what the request file asks for."""
    path = Path(sys.argv[1])
    request = json.loads(path.read_text(encoding="utf-8"))
    try:
        trt = importlib.import_module(request["module"])
        result = build(trt, request, path.parent)
    except BuildError as error:
        result = {"error": str(error)}
    (path.parent / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
