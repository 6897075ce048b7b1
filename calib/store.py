"""Stage results on disk under the hash of what went into them.

A stage's folder appears whole or not at all, carries the SHA-256 of each of its files, and is
checked against them each time it is read. So a second run of the same config computes nothing, a
killed run goes on with the first stage it had not finished, and a damaged file costs one stage,
never a wrong number.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from calib.errors import StoreError
from calib.journal import Journal
from calib.leftovers import hidden_file, hidden_folder, sweep

_MANIFEST = "manifest.json"
_SCRATCH = "scratch"
_LOCK_SECONDS = 3600
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""What a system says when nothing more can be written, whoever writes."""


def digest_from_key(key: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a JSON-serialisable key, independent of the order of its fields."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_from_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_from_tree(root: Path, *, exclude: frozenset[str] = frozenset()) -> str:
    """SHA-256 (hex) over the Python sources below `root`: what code made a result.

    Args:
        root: a package's folder.
        exclude: files below it, and folders, which end with `/`; `report/` always is.
    """
    sha = hashlib.sha256()
    left_out = tuple(name for name in ("report/", *exclude) if name.endswith("/"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if relative not in exclude and not relative.startswith(left_out):
            sha.update(f"{relative}\n{sha256_from_file(path)}\n".encode())
    return sha.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        StoreError: if the directory cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, re.escape(path.name))
        with hidden_file(path.parent, path.name) as temporary:
            temporary.write_bytes(data)
            temporary.chmod(0o644)  # a temporary file's 0600 would hide reports from other readers
            temporary.replace(path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


_EXTERNAL_DATA = ".data"


@contextmanager
def folder_to_fill(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent`, to be renamed when it is whole; removed if it is not.

    Raises:
        StoreError: if it cannot be made, or the disk is full before it is whole.
    """
    with ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(hidden_folder(parent, name))
        except OSError as error:
            raise _unwritable(parent, error) from error
        try:
            yield folder
        except OSError as error:
            if error.errno in DISK_FULL:
                raise _unwritable(parent, error) from error
            raise


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished stage: its folder, its digest, and whether it had been there before."""

    path: Path
    digest: str
    reused: bool


class Store:
    """The stage cache below one directory; safe to share between processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stage(self, name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Artifact:
        """The folder that `make` filled for this key, now or earlier.

        Args:
            name: the stage's name; part of the folder's path.
            key: everything the result depends on, JSON-serialisable.
            make: fills an empty folder; if it raises, nothing is kept.

        Raises:
            StoreError: if the store cannot be written, or another process holds the stage too
                long.
        """
        digest = digest_from_key({"stage": name, **key})
        final = self._root / name / digest[:32]
        with self._lock(final):
            if _is_whole(final):
                return Artifact(final, digest, reused=True)
            self._make(final, key, make)
        return Artifact(final, digest, reused=False)

    def journal(self, name: str, key: Mapping[str, Any]) -> Journal:
        """Where the stage of this key notes what it has measured before it is whole."""
        digest = digest_from_key({"stage": name, **key})
        return Journal(self._root / name / f"{digest[:32]}.journal")

    def sweep(self) -> None:
        """Remove what killed runs left; what a live one fills stays."""
        if self._root.is_dir():
            for folder in self._root.iterdir():
                sweep(folder, rf"[0-9a-f]{{32}}|{_SCRATCH}")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that are only needed here and now."""
        with folder_to_fill(self._root / _SCRATCH, _SCRATCH) as folder:
            yield folder

    def _make(self, final: Path, key: Mapping[str, Any], make: Callable[[Path], None]) -> None:
        shutil.rmtree(final, ignore_errors=True)
        with folder_to_fill(final.parent, final.name) as partial:
            make(partial)
            manifest = {"key": key, "files": dict(_hashes(partial))}
            write_atomically(partial / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
            partial.chmod(0o755)
            partial.replace(final)

    @contextmanager
    def _lock(self, final: Path) -> Iterator[None]:
        lock = FileLock(final.with_suffix(".lock"), timeout=_LOCK_SECONDS)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except LockTimeout as error:
            raise StoreError(
                str(final), "another process has held this stage for an hour", fix="Stop it first."
            ) from error
        except OSError as error:
            raise _unwritable(final.parent, error) from error
        try:
            yield
        finally:
            lock.release()


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _MANIFEST:
            yield path.relative_to(folder).as_posix(), sha256_from_file(path)


def _is_whole(folder: Path) -> bool:
    """Whether every file is there with the bytes it was written with, and no other."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(dict(_hashes(folder)) == manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        str(path),
        f"cannot write here: {error.strerror or error}",
        fix="Choose another directory with --set output.reports=… or free some space.",
    )


def place(source: Path, target: Path) -> None:
    """Put a file of the store into the run: a hard link where the disk allows, else a copy.

    External data of a model is always copied: ONNX refuses to read it where it has two names.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != _EXTERNAL_DATA:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
