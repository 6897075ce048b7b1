"""What each backend can do on this machine, in the runtime's own words."""

import json
import subprocess
import sys
from dataclasses import dataclass

import onnxruntime as ort

from calib.backends.gpu import Gpu, find_gpu

_TIMEOUT_SECONDS = 120
_PROBE = """
import importlib, json, sys
name, facts = sys.argv[1], {}
try:
    module = importlib.import_module(name)
    facts["version"] = str(getattr(module, "__version__", ""))
    if not hasattr(module, "Builder"):
        raise ImportError("only stubs are installed: the module has no Builder")
    module.Builder(module.Logger(module.Logger.ERROR))
    facts["builds"] = True
    capability = getattr(module, "ComputeCapability", None)
    facts["targets"] = [x[2:] for x in dir(capability) if x.startswith("SM")] if capability else []
except BaseException as error:
    facts["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
print("\\n" + json.dumps(facts))
"""
_INSTALL = {
    "tensorrt": "pip install tensorrt",
    "tensorrt_rtx": "pip install tensorrt_rtx_cu13",
}


@dataclass(frozen=True, slots=True)
class Availability:
    """One backend on this machine.

    Attributes:
        kind: as the config names it.
        version: empty if it is not installed.
        can_build: engines can be built here.
        can_run: engines can be run here.
        problem: why it cannot run, or cannot build; empty if it can.
        fix: a command that would help; empty if there is none.
        targets: compute capabilities that it can build for; empty = the GPU that is there.
    """

    kind: str
    version: str = ""
    can_build: bool = False
    can_run: bool = False
    problem: str = ""
    fix: str = ""
    targets: tuple[str, ...] = ()


def availabilities() -> tuple[Availability, ...]:
    """Every backend, the preferred one first."""
    gpu = find_gpu()
    return (
        tensorrt_availability("tensorrt", gpu),
        tensorrt_availability("tensorrt_rtx", gpu),
        _ort(),
    )


def tensorrt_availability(kind: str, gpu: Gpu) -> Availability:
    """Try the module in a process of its own: a broken installation can take its process along."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, kind],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        facts = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        facts = {"problem": f"importing it took more than {_TIMEOUT_SECONDS} s"}
    except (ValueError, IndexError):
        facts = {"problem": f"importing it ended the process with code {done.returncode}"}
    version, problem = str(facts.get("version", "")), str(facts.get("problem", ""))
    targets = tuple(_dotted(digits) for digits in facts.get("targets", ()))
    if problem:
        missing = problem.startswith("ModuleNotFoundError")
        text = "is not installed" if missing else problem
        return Availability(kind, version, problem=text, fix=_INSTALL[kind] if missing else "")
    why_not = gpu.problem or _unsupported(gpu, targets)
    return Availability(kind, version, True, not why_not, why_not, "", targets)


def _unsupported(gpu: Gpu, targets: tuple[str, ...]) -> str:
    if targets and gpu.compute_capability not in targets:
        return f"{gpu.name} has SM {gpu.compute_capability}; it runs on {', '.join(targets)}"
    return ""


def _dotted(digits: str) -> str:
    """89 is 8.9, 120 is 12.0."""
    return f"{digits[:-1]}.{digits[-1]}"


def _ort() -> Availability:
    providers = ", ".join(ort.get_available_providers())
    return Availability("onnxruntime", f"{ort.__version__} ({providers})", True, True)
