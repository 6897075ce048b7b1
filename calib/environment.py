"""Where the numbers come from: machine, versions, commit."""

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from calib.backends.base import Backend
from calib.results import Environment

_PACKAGES = [
    "calib",
    "numba",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "pandas",
    "polygraphy",
    "tokenizers",
    "tensorrt",
    "tensorrt_rtx_cu13",
]


_STAGES = frozenset(
    ["numba", "numpy", "onnx", "onnx-ir", "onnxruntime", "polygraphy", "tokenizers"]
)
_BUILDERS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_cu13"}


def environment_record(backend: Backend) -> Environment:
    """What this process runs on. Nothing in it identifies a person or a host by name."""
    commit, dirty = _git_state(Path.cwd())
    return Environment(
        hostname_sha256=hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        platform=platform.platform(),
        cpu=_cpu_name(),
        logical_cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpu=None,
        python=platform.python_version(),
        packages=package_versions(),
        backend=backend.name,
        backend_details=backend.describe(),
        git_commit=commit,
        git_dirty=dirty,
    )


def stage_packages(builder: str | None) -> dict[str, str]:
    """Those of them that what a stage keeps depends on.

    Args:
        builder: the kind of backend that builds engines, if one does: others' packages may come
            and go.
    """
    wanted = _STAGES | ({_BUILDERS[builder]} if builder in _BUILDERS else set())
    return {name: version for name, version in package_versions().items() if name in wanted}


def package_versions() -> dict[str, str]:
    """Version by name of the installed packages that numbers depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the generic name below is what there is
    return platform.processor() or platform.machine()


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
