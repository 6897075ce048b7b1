"""A model repository of NVIDIA Triton: a new version beside the old, then the configuration."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from calib.errors import ConfigError, StoreError
from calib.leftovers import hidden_folder, sweep
from calib.promotion.package import Package
from calib.promotion.target import TargetOptions
from calib.promotion.triton.check import WARMUP_FOLDER, by_number, check_model
from calib.promotion.triton.config import DIGEST_KEY, Facts
from calib.promotion.triton.folder import facts_of, fill
from calib.promotion.triton.schema import CONFIG_NAME, read_config
from calib.promotion.triton.version import RECORD_NAME, read_version
from calib.promotion.triton.words import changes, remarks
from calib.store import write_atomically

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LOCK_NAME = ".calib.lock"
_HIDDEN = "calib-promotes"
_REMOTE = re.compile(r"[a-z0-9]+://")


def open_target(path: str, options: TargetOptions) -> "TritonRepository":
    """The repository at a path of this machine.

    Raises:
        ConfigError: if it is no such path, or tritonclient is not installed.
        StoreError: if it is no folder, or is a model's own.
    """
    return TritonRepository(path, options)


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is to do for one package.

    Attributes:
        number: of the version.
        facts: for a new version; None if it is there already.
        configured: the configuration names the version already.
        replaced: the version that is served now; None if there is none.
    """

    number: int
    facts: Facts | None
    configured: bool
    replaced: int | None


class TritonRepository:
    """A folder that Triton serves models from."""

    def __init__(self, path: str, options: TargetOptions) -> None:
        """See `open_target`."""
        if _REMOTE.match(path):
            raise ConfigError(
                f"triton:{path}",
                "is not on this machine's disk",
                fix="Promote to a local folder, and copy that: aws s3 sync, gsutil rsync, …",
            )
        self.root, self.options = Path(path), options
        if (self.root / CONFIG_NAME).exists():
            raise StoreError(
                path, "is a model's folder", fix="Give the repository, the folder above it."
            )
        if not self.root.is_dir() and (
            self.root.exists() or not self.root.absolute().parent.is_dir()
        ):
            raise StoreError(path, "is no folder", fix="Make it first: mkdir -p.")

    def plan(self, package: Package) -> tuple[str, ...]:
        """See `Target.plan`."""
        return self._said(self._work(package), package)

    def promote(self, package: Package) -> tuple[str, ...]:
        """See `Target.promote`.

        The version's folder is made beside and renamed, then config.pbtxt is replaced: until then
        it names the old version alone, which stays.
        """
        with _writing(self.root):
            self.root.mkdir(exist_ok=True)
            with FileLock(self.root / _LOCK_NAME):
                sweep(self.root, _HIDDEN)
                work = self._work(package)
                said = self._said(work, package)
                if work.facts is not None:
                    self._put(work.facts, work.number)
                if not work.configured:
                    self._configure(package.name, work)
        return said

    def _folder(self, package: Package) -> Path:
        return self.root / package.name

    def _work(self, package: Package) -> _Work:
        folder, wanted = self._folder(package), self.options.version
        _refuse_name(package.name)
        served = _served_versions(folder)
        versions = by_number(folder)
        digest = package.sha256
        found = [n for n, path in versions.items() if _digest_of(path) == digest]
        if wanted is not None and (wanted < 1 or (wanted in versions and wanted not in found)):
            raise ConfigError(
                "--version",
                "is another package's" if wanted in versions else "is no version",
                got=str(wanted),
                expected=f"a new number, e.g. {max(versions, default=0) + 1}",
            )
        replaced = max(served, default=None)
        if found:
            number = max(found) if wanted is None else wanted
            if number not in found:
                raise ConfigError(
                    "--version", "the same package is there already", got=wanted, expected=found[0]
                )
            check_model(folder, package.name, self._config_of(folder, number, served))
            return _Work(number, None, number in served, replaced)
        number = wanted or max(versions, default=0) + 1
        return _Work(number, facts_of(package, digest, number, self.options), False, replaced)

    def _config_of(self, folder: Path, number: int, served: list[int]) -> Path:
        """The configuration of a version that is there: the one in force, or the one it had."""
        return folder / CONFIG_NAME if number in served else folder / str(number) / CONFIG_NAME

    def _said(self, work: _Work, package: Package) -> tuple[str, ...]:
        folder = self._folder(package)
        if work.facts is not None:
            return (*changes(work.facts, folder, work.replaced), *remarks(work.facts))
        if work.configured:
            return ()
        return (
            f"{folder / CONFIG_NAME}: version {work.number}, which is there already, for version "
            f"{work.replaced}",
        )

    def _put(self, facts: Facts, number: int) -> None:
        """Make the version's folder, whole and checked, and rename it into its place."""
        target = self.root / facts.package.name
        with hidden_folder(self.root, _HIDDEN) as hidden:
            fill(hidden / facts.package.name, facts)
            made = hidden / facts.package.name
            check_model(made, facts.package.name)
            if not target.exists():
                made.rename(target)
                return
            old_warmup = target / WARMUP_FOLDER / str(number)
            if old_warmup.exists():  # of a promotion that was ended before its version's folder
                old_warmup.rename(hidden / "old-warmup")
            if (made / WARMUP_FOLDER).is_dir():
                (target / WARMUP_FOLDER).mkdir(exist_ok=True)
                (made / WARMUP_FOLDER / str(number)).rename(old_warmup)
            (made / str(number)).rename(target / str(number))

    def _configure(self, name: str, work: _Work) -> None:
        """Let the configuration name the version; the one before is kept as it is now."""
        folder = self.root / name
        path = folder / CONFIG_NAME
        if path.is_file() and work.replaced is not None and work.replaced != work.number:
            kept, now = folder / str(work.replaced) / CONFIG_NAME, path.read_bytes()
            if kept.parent.is_dir() and (not kept.is_file() or kept.read_bytes() != now):
                write_atomically(kept, now)
        wanted = (folder / str(work.number) / CONFIG_NAME).read_bytes()
        if not path.is_file() or path.read_bytes() != wanted:
            write_atomically(path, wanted)


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            str(root),
            f"cannot write there: {error.strerror or error}",
            fix="Free space, or rights.",
        ) from error


def _refuse_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "--name",
            "is no name that Triton serves a model under",
            got=name,
            expected="letters, digits, `_`, `-` and `.`, at most 128, not beginning with - or .",
        )


def _served_versions(folder: Path) -> list[int]:
    """The versions that the configuration names.

    Raises:
        StoreError: if calib did not write it, or it cannot be read.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(
                str(folder),
                "holds a model without a configuration, which calib did not put there",
                fix="Give another --name, or move it away.",
            )
        return []
    config = read_config(path)
    if DIGEST_KEY not in config.parameters:
        raise StoreError(
            str(path),
            "is a configuration that calib did not write",
            fix="Give another --name, or move the model's folder away.",
        )
    return sorted(config.version_policy.specific.versions)


def _digest_of(folder: Path) -> str | None:
    return read_version(folder).package_sha256 if (folder / RECORD_NAME).is_file() else None
