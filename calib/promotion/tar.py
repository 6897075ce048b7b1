"""The bundle as one uncompressed tar: byte for byte the same from the same run."""

import hashlib
import re
import tarfile
from pathlib import Path

from calib.errors import ConfigError, StoreError
from calib.leftovers import hidden_file, sweep
from calib.promotion.bundle import (
    MANIFEST_NAME,
    SHA_DIGITS,
    Sink,
    bundle_files,
    copy_checked,
    megabytes_of,
    model_name_in,
    parents_of,
    refuse_unwritable,
    size_of,
    unusable,
)
from calib.promotion.package import Package, PackedFile
from calib.promotion.target import TargetOptions
from calib.store import sha256_from_file

_MANIFEST_MAX = 16 * 2**20


def open_target(place: str, _: TargetOptions) -> "TarBundle":
    """The tar at a path.

    Raises:
        ConfigError: if the path does not end in .tar.
    """
    path = Path(place).expanduser()
    if path.suffix != ".tar":
        raise ConfigError(f"--to tar:{place}", "must end in .tar", got=path.name)
    return TarBundle(path)


class TarBundle:
    """A bundle in one file. See `calib.promotion.target.Target`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def plan(self, package: Package) -> tuple[str, ...]:
        """See `Target.plan`.

        Raises:
            StoreError: if the file cannot be written, or is something else than a bundle of this
                name.
        """
        files = bundle_files(package)
        refuse_unwritable(self._path)
        what = f"{self._path}: {len(files)} files, {megabytes_of(files)}"
        if not self._path.exists():
            return (f"write {what}",)
        if not self._path.is_file():
            raise StoreError(str(self._path), "is there already, and is no file")
        try:
            same = sha256_from_file(self._path) == _digest(package, files)
        except OSError as error:
            raise unusable(self._path, error) from error
        if same:
            return ()
        if _name_in(self._path) != package.name:
            raise StoreError(
                str(self._path),
                f"is there already, and is no bundle of {package.name}",
                fix="Choose another file, or take it away.",
            )
        return (f"replace {what}",)

    def promote(self, package: Package) -> tuple[str, ...]:
        """See `Target.promote`. A reader sees the old file or the new one.

        Raises:
            StoreError: if the file cannot be written, or is something else than a bundle of this
                name.
        """
        plan = self.plan(package)
        if not plan:
            return ()
        folder, name = self._path.parent, self._path.name
        with parents_of(self._path):
            sweep(folder, re.escape(name))
            with hidden_file(folder, name) as temporary:
                with temporary.open("wb") as sink:
                    _write(package, bundle_files(package), sink)
                temporary.chmod(0o644)
                temporary.replace(self._path)
        verb, _, rest = plan[0].partition(" ")
        return (f"{'wrote' if verb == 'write' else 'replaced'} {rest}",)


class _Hash:
    """Takes what is written, and keeps its digest alone."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)


def _digest(package: Package, files: tuple[PackedFile, ...]) -> str:
    """SHA-256 of the tar that would be written."""
    sink = _Hash()
    _write(package, files, sink)
    return sink.sha256.hexdigest()


def _write(package: Package, files: tuple[PackedFile, ...], sink: Sink) -> None:
    """The tar: no times, no owners, members by name. PAX headers only where USTAR has no room."""
    folder = f"{package.name}/{package.model.sha256[:SHA_DIGITS]}"
    written = 0
    for file in files:
        member = tarfile.TarInfo(f"{folder}/{file.name}")
        member.size, member.mode = size_of(file), 0o644
        header = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        padding = bytes(-member.size % tarfile.BLOCKSIZE)
        sink.write(header)
        copy_checked(file, sink)
        sink.write(padding)
        written += len(header) + member.size + len(padding)
    end = 2 * tarfile.BLOCKSIZE
    sink.write(bytes(end + -(written + end) % tarfile.RECORDSIZE))


def _name_in(path: Path) -> str | None:
    """The name that the manifest in a tar gives; None if it is no bundle."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                is_manifest = member.isfile() and member.name.endswith(f"/{MANIFEST_NAME}")
                if is_manifest and member.size < _MANIFEST_MAX:
                    opened = archive.extractfile(member)
                    found = model_name_in(opened.read()) if opened is not None else None
                    return None if found is None else found[0]
    except (tarfile.TarError, OSError):
        return None
    return None
