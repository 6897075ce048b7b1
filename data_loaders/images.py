"""Folders of labelled images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_loaders.base import encodable, taken
from data_loaders.errors import DataError
from data_loaders.pictures import (
    SUFFIXES,
    PictureSpec,
    prepared,
    read_picture,
    refuse_outer_link,
    thumbnail_from_image,
)
from data_loaders.types import Preview, Sample


class ImagesSpec(PictureSpec):
    """A folder with one sub-folder a class; a flat folder is unlabelled."""

    kind: Literal["images"] = "images"
    path: Path = Field(description="The folder.")


class Images:
    """The samples of an ImagesSpec: float32 (channels, height, width), or as layout says."""

    def __init__(self, spec: ImagesSpec) -> None:
        self.spec = spec
        self.source = str(spec.path)
        if not spec.path.is_dir():
            raise DataError(self.source, "there is no such folder")
        folders = tuple(sorted(encodable(p.name) for p in spec.path.iterdir() if p.is_dir()))
        self.class_names = spec.classes or (folders or None)

    def __iter__(self) -> Iterator[Sample]:
        within = None if self.spec.links == "anywhere" else self.source
        for path in taken(picture_files(self.spec.path, within), self.spec):
            yield self._sample(path)

    def _sample(self, path: Path) -> Sample:
        relative = path.relative_to(self.spec.path)
        label = encodable(relative.parts[0]) if len(relative.parts) > 1 else None
        if label is not None and label not in (self.class_names or ()):
            raise DataError(str(path), "its folder is none of the classes", got=repr(label))
        seen, array, frame = prepared(read_picture(path), self.spec)
        return Sample(
            id=encodable(relative.as_posix()),
            inputs={self.spec.input_name: array},
            label=(self.class_names or ()).index(label) if label is not None else None,
            preview=Preview(png=thumbnail_from_image(seen)),
            frame=frame,
        )


def picture_files(folder: Path, within: str | None) -> list[Path]:
    """Every picture below the folder, in order of their names; see `_files`."""
    return sorted(_files(folder, within, frozenset()))


def _files(folder: Path, within: str | None, above: frozenset[Path]) -> Iterator[Path]:
    """Every image below the folder, in no order.

    Args:
        folder: links to folders are followed.
        within: what links must not lead out of; None where they may.
        above: the folders that this one is in.
    """
    real = folder.resolve()
    if real in above:
        raise DataError(str(folder), "is a link to a folder that it is in", got=str(real))
    for path in folder.iterdir():
        is_folder = path.is_dir()
        if not is_folder and path.suffix.lower() not in SUFFIXES:
            continue
        if within is not None and path.is_symlink():
            refuse_outer_link(path, within)
        if is_folder:
            yield from _files(path, within, above | {real})
        else:
            yield path
