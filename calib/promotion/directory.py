"""A folder to serve from or to hand over: PATH/<name>/<twelve digits of the model's SHA-256>/."""

import os
import re
from pathlib import Path

from calib.errors import StoreError
from calib.leftovers import hidden_folder, sweep
from calib.promotion.bundle import (
    MANIFEST_NAME,
    SHA_DIGITS,
    bundle_files,
    copy_checked,
    megabytes_of,
    model_name_in,
    parents_of,
    refuse_unwritable,
    unusable,
)
from calib.promotion.package import Package, PackedFile
from calib.promotion.target import TargetOptions
from calib.store import sha256_from_file


def open_target(place: str, _: TargetOptions) -> "DirectoryBundle":
    """The folder at a path."""
    return DirectoryBundle(Path(place).expanduser())


class DirectoryBundle:
    """Bundles as folders below a root. See `calib.promotion.target.Target`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def plan(self, package: Package) -> tuple[str, ...]:
        """See `Target.plan`.

        Raises:
            StoreError: if the place cannot be written, or is taken by something else.
        """
        folder = self._folder(package)
        files = bundle_files(package)
        refuse_unwritable(folder)
        if not os.path.lexists(folder):
            return (f"write {folder}: {len(files)} files, {megabytes_of(files)}",)
        unlike = _unlike(folder, files)
        if not unlike:
            return ()
        _refuse_other(folder, package)
        return (f"replace {folder}: {', '.join(unlike)}",)

    def promote(self, package: Package) -> tuple[str, ...]:
        """See `Target.promote`. What is replaced is away for the moment between two renames.

        Raises:
            StoreError: if the place cannot be written, or is taken by something else.
        """
        plan = self.plan(package)
        if not plan:
            return ()
        folder = self._folder(package)
        with parents_of(folder):
            sweep(folder.parent, re.escape(folder.name))
            with hidden_folder(folder.parent, folder.name) as partial:
                _fill(partial, bundle_files(package))
                _put(partial, folder)
        return tuple(_done(line) for line in plan)

    def _folder(self, package: Package) -> Path:
        return self._root / package.name / package.model.sha256[:SHA_DIGITS]


def _done(line: str) -> str:
    """`write …` as `wrote …`."""
    verb, _, rest = line.partition(" ")
    return f"{ {'write': 'wrote', 'replace': 'replaced'}[verb] } {rest}"


def _fill(partial: Path, files: tuple[PackedFile, ...]) -> None:
    for file in files:
        target = partial / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as sink:
            copy_checked(file, sink)
        target.chmod(0o644)
    for folder in (partial, *(p for p in partial.rglob("*") if p.is_dir())):
        folder.chmod(0o755)


def _put(partial: Path, folder: Path) -> None:
    """Rename the whole folder to its name; what is there comes back if that fails."""
    if not folder.exists():
        partial.rename(folder)
        return
    with hidden_folder(folder.parent, folder.name) as aside:
        old = folder.rename(aside / "old")
        try:
            partial.rename(folder)
        except BaseException:
            old.rename(folder)
            raise


def _unlike(folder: Path, files: tuple[PackedFile, ...]) -> list[str]:
    """Names of the files that are not there, are other ones, or are too many."""
    wanted = {file.name: file.sha256 for file in files}
    try:
        found = {
            path.relative_to(folder).as_posix(): sha256_from_file(path)
            for path in folder.rglob("*")
            if not path.is_dir()
        }
    except OSError as error:
        raise unusable(folder, error) from error
    names = sorted({*wanted, *found})
    return [name for name in names if wanted.get(name) != found.get(name)]


def _refuse_other(folder: Path, package: Package) -> None:
    """Refuse to replace what is no bundle of this name and model."""
    try:
        manifest = (folder / MANIFEST_NAME).read_bytes()
    except OSError:
        manifest = b""
    if model_name_in(manifest) != (package.name, package.model.sha256):
        raise StoreError(
            str(folder),
            "is there already, and is no bundle of this model",
            fix="Choose another folder or --name, or take it away.",
        )
