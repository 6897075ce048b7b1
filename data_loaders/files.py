"""The files that a path, a folder, a pattern or a URL stands for, in the order of their names."""

import glob
import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.locations import is_remote, local_path
from data_loaders.storage import Store, reading, tried

FILES_MAX = 1_000_000
"""No pattern stands for more."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(-?\d+)\.\.(-?\d+)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_OF_TEXT = (".csv", ".tsv", ".json", ".jsonl", ".txt")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file.

    Attributes:
        name: below the folder that all of them are in; what ids begin with.
        location: its path or URL.
        store: opens it, if it is remote.
    """

    name: str
    location: str
    store: Store

    def open(self, *, at_random: bool = False) -> BinaryIO:
        """Its bytes; see `Store.open`."""
        if is_remote(self.location):
            return self.store.open(self.location, at_random=at_random)
        with reading(self.location):
            return local_path(self.location).open("rb")


@dataclass(frozen=True, slots=True)
class Files:
    """What a location stands for.

    Attributes:
        files: at least one, in the order of their names.
        single: whether the location is the name of one file.
    """

    files: tuple[DataFile, ...]
    single: bool


def suffix_of(name: str, known: Collection[str]) -> str | None:
    """The longest of the suffixes that a name has, in any case; a URL's query is none of it."""
    lower = name.partition("?")[0].lower() if is_remote(name) else name.lower()
    return max((s for s in known if lower.endswith(s)), key=len, default=None)


def files_from_location(location: str, store: Store, suffixes: Collection[str]) -> Files:
    """The files of a location.

    Args:
        location: a file, a folder, a pattern (`*`, `?`, `[…]`, `**`), names in braces
            (`{000..012}`, `{a,b}`), each on this machine or as a URL.
        store: opens URLs.
        suffixes: of the files wanted in a folder.

    Raises:
        DataError: if there is none, or it cannot be asked for.
    """
    if location.startswith("pipe:"):
        raise DataError(location, "is a command, and none is run", expected="a path or a URL")
    if not is_remote(location) and local_path(location).is_file():
        return Files((_local(local_path(location), local_path(location).parent, store),), True)
    names = list(itertools.islice(expanded(location), FILES_MAX + 1))
    if len(names) > FILES_MAX:
        raise DataError(location, f"stands for more than {FILES_MAX:,} files")
    root = _root(location)
    if len(names) > 1:
        listed = (_files(name, root, store, suffixes, is_alone=False)[0] for name in names)
        found, single = [file for files in listed for file in files], False
    else:
        found, single = _files(names[0], root, store, suffixes, is_alone=True)
    if not found:
        raise DataError(
            location, "no file is found there", expected=f"files of {', '.join(sorted(suffixes))}"
        )
    return Files(tuple(sorted(found, key=lambda file: file.name)), single)


def is_pattern(location: str) -> bool:
    """Whether it may stand for several files."""
    return re.search(r"[*?\[{]", location) is not None


def expanded(pattern: str) -> Iterator[str]:
    """Every name that braces stand for, as a shell would write them.

    Numbers from the one to the other keep the zeros in front.
    """
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    before, after = pattern[: found.start()], pattern[found.end() :]
    numbers = _NUMBERS.fullmatch(found[1])
    if numbers:
        first, last = (int(number) for number in numbers.groups())
        width = max(map(len, numbers.groups())) if any(map(_padded, numbers.groups())) else 0
        step = 1 if first <= last else -1
        choices: Iterator[str] = (f"{n:0{width}d}" for n in range(first, last + step, step))
    else:
        choices = iter(found[1].split(","))
    for choice in choices:
        for rest in expanded(after):
            yield before + choice + rest


def _padded(number: str) -> bool:
    digits = number.lstrip("-")
    return len(digits) > 1 and digits.startswith("0")


def _root(location: str) -> str:
    """The folder, with its slash, in front of the first name that is a pattern or a file's."""
    fixed = re.split(r"[*\[{]" if is_remote(location) else r"[*?\[{]", location, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def _files(
    location: str, root: str, store: Store, suffixes: Collection[str], *, is_alone: bool
) -> tuple[list[DataFile], bool]:
    """The files of one name or pattern, and whether it is a file's name."""
    if is_remote(location):
        return _remote_files(location, root, store, suffixes, is_alone=is_alone)
    path = local_path(location)
    base = local_path(root) if root else Path()
    if path.is_dir():
        return [_local(p, path if is_alone else base, store) for p in _below(path, suffixes)], False
    if glob.has_magic(str(path)):
        found: list[Path] = []
        for name in glob.iglob(str(path), recursive=True):  # noqa: PTH207 - it may be absolute
            match = Path(name)
            if match.is_dir():
                found += _below(match, suffixes)
            elif suffix_of(name, suffixes):
                found.append(match)
        return [_local(p, base, store) for p in sorted(set(found))], False
    if not path.exists():
        raise DataError(location, "there is no such file")
    return [_local(path, base, store)], True


def _below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of these suffixes in a folder, at any depth."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = [p for p in files if _wanted(p.relative_to(folder).as_posix(), suffixes)]
    for path in found:
        _refuse_text_elsewhere(path, folder)
    return found


def _local(path: Path, folder: Path, store: Store) -> DataFile:
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    return DataFile(encodable(name.as_posix()), str(path), store)


def _wanted(name: str, suffixes: Collection[str]) -> bool:
    """Not the hidden files and folders that writers leave, such as _SUCCESS and .part.crc."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return not hidden and suffix_of(name, suffixes) is not None


def _refuse_text_elsewhere(path: Path, folder: Path) -> None:
    """Reports show texts: a folder from elsewhere must not choose which of this machine."""
    if path.suffix.lower() not in _OF_TEXT or not path.is_symlink():
        return
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            str(path),
            "is a link that leads out of the folder",
            got=str(path.resolve()),
            fix="If that is meant, name the file itself, or a pattern.",
        )


def _remote_files(
    location: str, root: str, store: Store, suffixes: Collection[str], *, is_alone: bool
) -> tuple[list[DataFile], bool]:
    system, path = store.system(location)
    if re.search(r"[*\[]", path):
        found = tried(location, lambda: system.glob(path))
    elif suffix_of(path, suffixes) is None and tried(location, lambda: system.isdir(path)):
        listed = tried(location, lambda: system.find(path))
        start = len(path.rstrip("/")) + 1
        found = [name for name in listed if _wanted(name[start:], suffixes)]
        root = location.rstrip("/") + "/" if is_alone else root
    else:
        return [DataFile(encodable(location[len(root) :]), location, store)], True
    above = len(str(system._strip_protocol(root)).rstrip("/")) + 1  # noqa: SLF001 - fsspec's own
    inside = [name for name in found if suffix_of(str(name), suffixes) is not None]
    return [
        DataFile(encodable(name[above:]), str(system.unstrip_protocol(name)), store)
        for name in inside
    ], False


def partition_values(location: str) -> dict[str, str | None]:
    """The columns that a file's folders stand for: year=2024/…, as Hive writes them. Texts."""
    pairs = (part.partition("=") for part in location.partition("?")[0].split("/")[:-1])
    found = {unquote(key): unquote(value) for key, sign, value in pairs if sign and key}
    return {key: None if value == _NO_VALUE else value for key, value in found.items()}
