"""Quantized models for the accuracy benchmark, ours and the peers', made once and kept.

Beside every `<tool>-<method>.onnx` lies a JSON file with what making it cost, or why it failed.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.accuracy_scores import array_names, first_batch
from benchmarks.models import ModelCase
from benchmarks.peers import quantized_by

ROOT = Path(__file__).parent.parent
BATCH = 16
OURS = "calib"
ALONE = "only-"
"""Before the name of a remedy: that one, with minmax."""
NATIVE = "native-"
"""Before a calibrator, or auto: in the layout for ONNX Runtime."""
REMEDIES = "remedies"
"""In place of a calibrator: remedies and the calibrator auto, nothing left in float by choice."""
TIMEOUT = 900.0

TRANSFORMERS = frozenset({"minilm_newsgroups", "minilm_text2", "preln_encoder", "ocr_recognizer"})
"""Models with attention: NNCF is told so."""


@dataclass(frozen=True, slots=True)
class Made:
    """A quantized model and what making it cost; `error` says why there is none.

    Attributes:
        model: the quantized model.
        seconds: of calibrating and quantizing, imports left out.
        peak_bytes: largest resident memory of the process meanwhile.
        inference_seconds: FP32 inference of the calibration samples, taken just before and after.
        error: the last line of what the tool said.
    """

    model: Path
    seconds: float | None = None
    peak_bytes: int | None = None
    inference_seconds: float | None = None
    error: str | None = None


def architecture(case: ModelCase) -> Literal["transformer", "conv"]:
    """What NNCF is told of the model."""
    return "transformer" if case.name in TRANSFORMERS else "conv"


def made_from(folder: Path) -> str:
    """Digest of what the model and its data were built from."""
    return hashlib.sha256((folder / "made_from.txt").read_bytes()).hexdigest()[:16]


def by_peer(
    case: ModelCase, folder: Path, tool: str, method: str, fresh: bool, timeout: float = TIMEOUT
) -> Made:
    """Another tool's model, from all calibration samples.

    Args:
        case: the model.
        folder: with its files.
        tool: a peer.
        method: one of the peer's.
        fresh: whether to make it again where it is there.
        timeout: seconds for the whole process.
    """
    target = folder / f"{tool}-{method}.onnx"

    def make() -> Made:
        found = quantized_by(
            tool,
            method,
            folder / "model.onnx",
            folder / "calibration.npz",
            target,
            BATCH,
            architecture(case),
            timeout,
        )
        return Made(target, found.seconds, found.peak_bytes, error=found.error)

    return _kept(target, made_from(folder), fresh, make)


def _kept(target: Path, key: str, fresh: bool, make: Callable[[], Made]) -> Made:
    facts = target.with_suffix(".json")
    if facts.exists() and not fresh:
        found: dict[str, Any] = json.loads(facts.read_text())
        if found.pop("made_from") == key and (found["error"] or target.exists()):
            return Made(target, **found)
    made = make()
    content = {k: v for k, v in asdict(made).items() if k != "model"}
    facts.write_text(json.dumps({"made_from": key, **content}))
    return made


def by_calib(case: ModelCase, folder: Path, method: str, fresh: bool, timeout: float) -> Made:
    """Our model, by a whole run of calib with one calibrator.

    Args:
        case: the model.
        folder: with its files.
        method: a calibrator, and `auto` chooses remedies too; or a remedy alone, after `ALONE`.
        fresh: whether to make it again where it is there.
        timeout: seconds for the whole process.
    """
    target = folder / f"{OURS}-{method}.onnx"

    def make() -> Made:
        before = inference(folder)["seconds"]
        try:
            found = _run_calib(case, folder, method, target, timeout)
        except ChildError as error:
            return Made(target, error=str(error))
        both = before + inference(folder)["seconds"]
        return Made(target, found["seconds"], found["peak_bytes"], both / 2)

    return _kept(target, made_from(folder), fresh, make)


def inference(folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of one FP32 pass over the calibration samples, measured now."""
    return _child("infer", folder / "model.onnx", folder / "calibration.npz")


def kept_inference(folder: Path, fresh: bool) -> dict[str, Any]:
    """The same, measured once."""
    path, key = folder / "inference.json", made_from(folder)
    if path.exists() and not fresh:
        found: dict[str, Any] = json.loads(path.read_text())
        if found["made_from"] == key:
            return found
    found = {"made_from": key, **inference(folder)}
    path.write_text(json.dumps(found))
    return found


def _run_calib(
    case: ModelCase, folder: Path, method: str, target: Path, timeout: float
) -> dict[str, Any]:
    work = folder / f"{OURS}-{method}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    config = work / "config.yaml"
    config.write_text(yaml.safe_dump(_experiment(case, folder, method, work), sort_keys=False))
    found = _child("calibrate", config, timeout=timeout)
    (work / "cost.json").write_text(json.dumps(found, indent=1))
    name = f"int8-{_calibrator(method)}"
    shutil.copyfile(Path(found["directory"]) / "models" / name / "model.onnx", target)
    shutil.rmtree(work / "store")
    return found


def _experiment(case: ModelCase, folder: Path, method: str, work: Path) -> dict[str, Any]:
    """A quick run's config: one batch to validate, since the benchmark scores the model itself."""
    inputs = {name: name for name in array_names(folder / "calibration.npz")}
    few: dict[str, Any] = {"kind": "arrays", "inputs": inputs}
    task = {"kind": "embedding"}
    validation = {**few, "path": str(first_batch(folder))}
    if case.task == "classification":
        task = {"kind": "classification"}
        validation["label"] = "label"
    return {
        "name": f"{case.name}-{method}",
        "model": {"kind": "onnx", "path": str(folder / "model.onnx")},
        "data": {
            "batch_size": BATCH,
            "calibration": {**few, "path": str(folder / "calibration.npz")},
            "validation": validation,
        },
        "task": task,
        "calibration": {"calibrators": [{"kind": _calibrator(method)}]},
        **_quantization(method),
        "engines": {"fp16": False},
        "analysis": {"layer_samples": 0},
        "throughput": {"batch_sizes": []},
        "limits": {"samples_min": 1},
        "output": {"reports": str(work / "reports"), "store": str(work / "store")},
    }


def _calibrator(method: str) -> str:
    if method.startswith(ALONE):
        return "minmax"
    name = method.removeprefix(NATIVE)
    return "auto" if name == REMEDIES else name


def _quantization(method: str) -> dict[str, Any]:
    if method.startswith(ALONE):
        return {"quantization": {"remedies": [method.removeprefix(ALONE)]}}
    spec: dict[str, Any] = {"layout": "native"} if method.startswith(NATIVE) else {}
    if _calibrator(method) == "auto":
        mixed = "none" if method.endswith(REMEDIES) else "auto"
        spec |= {"remedies": "auto", "mixed_precision": mixed}
    return {"quantization": spec}


class ChildError(Exception):
    """A process did not end well; its last words."""


def _child(*arguments: object, timeout: float = TIMEOUT) -> dict[str, Any]:
    """What a process of its own measured."""
    script = [sys.executable, ROOT / "benchmarks" / "accuracy_child.py"]
    with tempfile.TemporaryDirectory() as scratch:
        out, said = Path(scratch) / "out.json", Path(scratch) / "said.txt"
        try:
            with said.open("wb") as log:
                subprocess.run(
                    [*map(str, (*script, *arguments)), str(out)],
                    cwd=ROOT,
                    check=True,
                    stdout=log,
                    stderr=log,
                    timeout=timeout,
                )
        except subprocess.TimeoutExpired:
            raise ChildError(f"stopped after {timeout:g} s") from None
        except subprocess.CalledProcessError as error:
            lines = said.read_text(errors="replace").strip().splitlines()
            raise ChildError(lines[-1] if lines else f"exit status {error.returncode}") from None
        found: dict[str, Any] = json.loads(out.read_text())
        return found
