"""Folders of labelled images."""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.folders import Folder, FolderSamples
from data_loaders.locations import Location, StoredSpec
from data_loaders.pictures import PictureSpec, prepared, thumbnail_from_image
from data_loaders.types import Preview, Sample


class ImagesSpec(PictureSpec, StoredSpec):
    """A folder with one sub-folder a class; a flat folder is unlabelled."""

    kind: Literal["images"] = "images"
    path: Location = Field(description="The folder, or its URL.")


class Images(FolderSamples):
    """The samples of an ImagesSpec: float32 (channels, height, width), or as layout says."""

    def __init__(self, spec: ImagesSpec) -> None:
        self.spec = spec
        self.source = spec.path
        self._images = Folder(spec.path, spec.storage, spec.links)
        folders = tuple(sorted(map(encodable, self._images.folders())))
        self.class_names = spec.classes or (folders or None)

    def _sample(self, name: str) -> Sample:
        parts = PurePosixPath(name).parts
        label = encodable(parts[0]) if len(parts) > 1 else None
        if label is not None and label not in (self.class_names or ()):
            where = self._images.where(name)
            raise DataError(where, "its folder is none of the classes", got=repr(label))
        seen, array, frame = prepared(self._images.picture(name), self.spec)
        return Sample(
            id=encodable(name),
            inputs={self.spec.input_name: array},
            label=(self.class_names or ()).index(label) if label is not None else None,
            preview=Preview(png=thumbnail_from_image(seen)),
            frame=frame,
        )
