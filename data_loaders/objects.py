"""Pictures with boxes: COCO's JSON, or YOLO's text files."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image
from pydantic import Field

from data_loaders.base import encodable
from data_loaders.coco_objects import CocoObjects
from data_loaders.errors import DataError
from data_loaders.files import files_from_location
from data_loaders.folders import Folder, FolderSamples
from data_loaders.locations import Location, StoredSpec
from data_loaders.parts import moved
from data_loaders.pictures import PictureSpec, prepared, thumbnail_from_image
from data_loaders.selecting import Positions, Selecting, picked
from data_loaders.storage import Store
from data_loaders.targets import ObjectsTarget
from data_loaders.types import Array, Preview, Sample


class CocoSpec(PictureSpec, StoredSpec):
    """Pictures and one JSON of annotations, as COCO has them."""

    kind: Literal["coco"] = "coco"
    images: Location = Field(
        description="The folder that the annotations' file names are in, or its URL."
    )
    annotations: Location = Field(description="The JSON: images, annotations, categories.")


class YoloSpec(PictureSpec, StoredSpec):
    """Pictures, and for each a text file of lines `class cx cy w h` in parts of its sides."""

    kind: Literal["yolo"] = "yolo"
    images: Location = Field(description="The folder of pictures, or its URL.")
    labels: Location = Field(description="The folder of text files of the same names.")
    names: Path | None = Field(
        default=None, description="data.yaml, whose `names` are the classes."
    )


class Coco(Selecting):
    """The samples of a CocoSpec; classes count from 0 in the order of the categories' ids."""

    def __init__(self, spec: CocoSpec) -> None:
        self.spec = spec
        self.source = spec.annotations
        self._folder = Folder(spec.images, spec.storage, spec.links)
        (file,) = files_from_location(spec.annotations, Store(spec.storage), (".json",)).files
        self._found = CocoObjects(file, spec.skip, spec.samples)
        self.class_names = spec.classes or self._found.class_names

    def total(self) -> int | None:
        """As `Choosing.total`; pictures behind those that are asked for are not counted."""
        pictures = len(self._found.names)
        return int(self.spec.skip) + pictures

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        for place, (_, name) in self._pictures(positions):
            yield place, encodable(name)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        for _, (picture, name) in self._pictures(positions):
            target = checked_objects(*self._found.objects(picture), self.source)
            where = self._folder.where(name)
            image = self._folder.picture(name)
            yield objects_sample(image, encodable(name), target, self.spec, where)

    def _pictures(self, positions: Positions) -> Iterator[tuple[int, tuple[Any, str]]]:
        """Place, id and name of the pictures at these places; none is before `skip`."""
        skip = self.spec.skip
        for index, picture in picked(self._found.names.items(), moved(positions, -skip)):
            yield skip + index, picture


class Yolo(FolderSamples):
    """The samples of a YoloSpec; a picture without a text file has no objects."""

    def __init__(self, spec: YoloSpec) -> None:
        self.spec = spec
        self.source = spec.images
        self._images, self._labels = (
            Folder(folder, spec.storage, spec.links) for folder in (spec.images, spec.labels)
        )
        self.class_names = spec.classes or (_names(spec.names) if spec.names else None)

    def _sample(self, name: str) -> Sample:
        labels = PurePosixPath(name).with_suffix(".txt").as_posix()
        rows = self._rows(labels) if self._labels.has(labels) else np.zeros((0, 5))
        where = self._images.where(name)
        image = self._images.picture(name)
        return objects_sample(image, encodable(name), rows, self.spec, where)

    def _rows(self, name: str) -> Array:
        """float64 (objects, 5): class, then the box in parts of the sides."""
        where = self._labels.where(name)
        try:
            lines = self._labels.content(name).decode("utf-8").splitlines()
            rows = [[float(v) for v in line.split()[:5]] for line in lines if line.strip()]
            found = np.array(rows, dtype=np.float64).reshape(-1, 5)
        except (OSError, ValueError) as error:
            raise DataError(
                where, f"holds something else than boxes: {error}", expected="class cx cy w h"
            ) from error
        many = len(self.class_names or ())
        if len(found) and (found[:, 0].min() < 0 or (many and found[:, 0].max() >= many)):
            raise DataError(
                where,
                "a class is none of the names",
                got=str(int(found[:, 0].max())),
                expected=f"0 to {many - 1}",
            )
        return found


def objects_sample(
    image: Image.Image, name: str, target: ObjectsTarget | Array, spec: PictureSpec, where: str
) -> Sample:
    """A picture with its boxes.

    Args:
        image: the picture.
        name: the sample's id.
        target: the objects, or YOLO's rows: class, then centre and sides in parts of the picture's.
        spec: the model's input.
        where: the picture's place, for messages.
    """
    seen, array, frame = prepared(image, spec)
    if isinstance(target, np.ndarray):
        sides = np.array([image.width, image.height] * 2)
        centre, half = target[:, 1:3], target[:, 3:5] / 2
        boxes = np.hstack([centre - half, 2 * half]) * sides
        target = checked_objects(boxes, target[:, 0], np.zeros(len(boxes)), None, where)
    return Sample(
        id=name,
        inputs={spec.input_name: array},
        label=target,
        metadata={"objects": object_count(target)},
        preview=Preview(png=thumbnail_from_image(seen)),
        frame=frame,
    )


def checked_objects(
    boxes: Array, classes: Any, crowd: Any, areas: Any, where: str
) -> ObjectsTarget:
    """Corners of boxes that are given as x, y, width, height."""
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise DataError(where, "a box has no size", got=str(boxes[:1].tolist()))
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    size = np.prod(boxes[:, 2:], axis=1) if areas is None else np.asarray(areas, dtype=np.float64)
    return ObjectsTarget(
        corners, np.asarray(classes, dtype=np.int64), np.asarray(crowd, dtype=bool), size
    )


def object_count(target: ObjectsTarget) -> str:
    """To slice by: how crowded a picture is."""
    objects = int((~target.crowd).sum())
    return str(objects) if objects < 2 else "2-5" if objects <= 5 else "6 or more"


def _names(path: Path) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        ordered = [names[k] for k in sorted(names)] if isinstance(names, dict) else list(names)
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(str(path), f"has no names: {error}") from error
    return tuple(encodable(str(name)) for name in ordered)
