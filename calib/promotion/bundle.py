"""The files of a bundle with their manifest: the same bytes wherever and whenever it is written."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from calib.errors import StoreError
from calib.promotion.package import WARMUP_NAME, Package, PackedFile

MANIFEST_NAME = "manifest.json"
SHA_DIGITS = 12
"""Of the model's digest: enough to tell versions of one name apart."""
_PIECE = 2**20


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take some."""


def bundle_files(package: Package) -> tuple[PackedFile, ...]:
    """The package's files and their manifest, by name.

    The batch for warming up stays behind: it holds samples.
    """
    files = sorted((f for f in package.files if f.name != WARMUP_NAME), key=lambda f: f.name)
    content: dict[str, Any] = {
        "schema_version": 1,
        "name": package.name,
        "experiment": package.result.experiment,
        "run_id": package.result.run_id,
        "candidate": package.candidate.name,
        "model_sha256": package.model.sha256,
        "verdict": package.verdict.verdict.value,
        "waived": list(package.waived),
        "files": [{"name": f.name, "sha256": f.sha256, "size": size_of(f)} for f in files],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    manifest = PackedFile.of(MANIFEST_NAME, text.encode())
    return tuple(sorted([*files, manifest], key=lambda f: f.name))


def size_of(file: PackedFile) -> int:
    """Its bytes."""
    return len(file.source) if isinstance(file.source, bytes) else file.source.stat().st_size


def megabytes_of(files: tuple[PackedFile, ...]) -> str:
    """How much there is of them, for a person to read."""
    return f"{sum(map(size_of, files)) / 1e6:,.1f} MB"


def model_name_in(manifest: bytes) -> tuple[str, str] | None:
    """The name and the model's SHA-256 that a manifest gives; None if it is no manifest of ours."""
    try:
        content = json.loads(manifest)
        return str(content["name"]), str(content["model_sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def copy_checked(file: PackedFile, sink: Sink) -> None:
    """Write a file's content, which must still be what was packed.

    Raises:
        StoreError: if it is not.
        OSError: if it cannot be read or written.
    """
    found = hashlib.sha256()
    if isinstance(file.source, bytes):
        found.update(file.source)
        sink.write(file.source)
    else:
        with file.source.open("rb") as source:
            while piece := source.read(_PIECE):
                found.update(piece)
                sink.write(piece)
    if found.hexdigest() != file.sha256:
        raise StoreError(
            str(file.source) if isinstance(file.source, Path) else file.name,
            "was changed while it was promoted",
            fix="Promote again: the file has changed since.",
        )


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """The folders above a path, made now; those that were not there go again after an error.

    Raises:
        StoreError: for every error of the file system inside.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise unusable(path, error) from error
        raise


def refuse_unwritable(path: Path) -> None:
    """Refuse a place below what is no folder, or is one that nothing may be written to.

    Raises:
        StoreError: if so.
    """
    try:
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise unusable(path, error) from error
    if not above.is_dir():
        raise StoreError(str(path), f"cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise StoreError(str(path), f"cannot be written: {above} lets nobody write here")


def unusable(path: Path, error: OSError) -> StoreError:
    """What went wrong at a place, as the user sees it."""
    return StoreError(
        str(path),
        f"cannot be written: {error.strerror or error}",
        fix="Nothing was changed there. Choose another place, or free some space.",
    )
