"""Folders of pictures and what belongs to them, on this machine or behind a URL."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.locations import is_remote, local_path
from data_loaders.pictures import (
    SUFFIXES,
    picture_from_bytes,
    read_picture,
    refuse_outer_link,
)
from data_loaders.selecting import Positions, Selecting, picked
from data_loaders.storage import Store, tried
from data_loaders.types import Sample

FILE_BYTES_MAX = 2**30
"""A remote file that is read whole is refused beyond it."""


class Folder:
    """Files below a folder, by their names in it with `/` between.

    Args:
        location: a path or a URL.
        storage: fsspec's options for a URL.
        links: `inside`: links of this machine that lead out of the folder are refused.

    Raises:
        DataError: if there is no such folder on this machine, or the URL cannot be opened.
    """

    def __init__(self, location: str, storage: Mapping[str, Any], links: str) -> None:
        self._location, self._links = location.rstrip("/") or "/", links
        self._path: Path | None = None
        if is_remote(location):
            self._store = Store(storage)
            self._system, self._root = self._store.system(self._location)
        else:
            self._path = local_path(location)
            if not self._path.is_dir():
                raise DataError(location, "there is no such folder")

    def where(self, name: str) -> str:
        """The path or URL of a file, for messages."""
        return str(self._path / name) if self._path else f"{self._location}/{name}"

    def names(self, suffixes: Collection[str] = SUFFIXES) -> list[str]:
        """All files of these suffixes, in order of their names."""
        if self._path:
            within = None if self._links == "anywhere" else str(self._path)
            found = _files(self._path, within, frozenset(), suffixes)
            return [path.relative_to(self._path).as_posix() for path in sorted(found)]
        listed = tried(self._location, lambda: self._system.find(self._root))
        below = (name[len(self._root.rstrip("/")) + 1 :] for name in listed)
        wanted = [name for name in below if PurePosixPath(name).suffix.lower() in suffixes]
        if not wanted:
            raise DataError(self._location, "no picture is found there")
        return sorted(wanted, key=PurePosixPath)

    def folders(self) -> tuple[str, ...]:
        """The folders directly in it, sorted."""
        if self._path:
            return tuple(sorted(p.name for p in self._path.iterdir() if p.is_dir()))
        parts = (name.split("/") for name in self.names())
        return tuple(sorted({first for first, *rest in parts if rest}))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        if self._path:
            return (self._path / name).is_file()
        url = self.where(name)
        return bool(tried(url, lambda: self._system.exists(self._remote(name))))

    def picture(self, name: str, mode: str | None = "RGB") -> Image.Image:
        """A picture; see `read_picture`.

        Raises:
            DataError: if there is none of that name, or it is damaged, or leads out of the folder.
        """
        if self._path:
            return read_picture(self._checked(name), mode)
        return picture_from_bytes(self.content(name), self.where(name), mode)

    def content(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            DataError: as `picture` does.
        """
        where = self.where(name)
        if self._path:
            return self._checked(name).read_bytes()
        path = self._remote(name)
        content: bytes = tried(where, lambda: self._system.cat_file(path, end=FILE_BYTES_MAX + 1))
        if len(content) > FILE_BYTES_MAX:
            raise DataError(where, f"holds more than {FILE_BYTES_MAX:,} bytes")
        return content

    def _remote(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/") or "?" in name or "#" in name:
            raise DataError(self.where(name), "leads out of the folder")
        return f"{self._root.rstrip('/')}/{name}"

    def _checked(self, name: str) -> Path:
        path = (self._path or Path()) / name
        if not path.exists():
            raise DataError(str(path), "there is no such picture")
        if self._links != "anywhere":
            refuse_outer_link(path, str(self._path))
        return path


def _files(
    folder: Path, within: str | None, above: frozenset[Path], suffixes: Collection[str]
) -> Iterator[Path]:
    """Every file below the folder, in no order.

    Args:
        folder: links to folders are followed.
        within: what links must not lead out of; None where they may.
        above: the folders that this one is in.
        suffixes: of the files that are meant.
    """
    real = folder.resolve()
    if real in above:
        raise DataError(str(folder), "is a link to a folder that it is in", got=str(real))
    for path in folder.iterdir():
        is_folder = path.is_dir()
        if not is_folder and path.suffix.lower() not in suffixes:
            continue
        if within is not None and path.is_symlink():
            refuse_outer_link(path, within)
        if is_folder:
            yield from _files(path, within, above | {real}, suffixes)
        else:
            yield path


class FolderSamples(Selecting):
    """A loader that makes one sample of each picture of a folder.

    Attributes:
        _images: the folder.
    """

    _images: Folder

    def _sample(self, name: str) -> Sample:
        """A picture as a sample.

        Args:
            name: of its file in the folder.
        """
        raise NotImplementedError

    def total(self) -> int | None:
        """As `Choosing.total`."""
        return len(self._images.names())

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        for place, name in picked(self._images.names(), positions):
            yield place, encodable(name)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        for _, name in picked(self._images.names(), positions):
            yield self._sample(name)
