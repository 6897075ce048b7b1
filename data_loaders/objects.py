"""Pictures with boxes: COCO's JSON, or YOLO's text files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field

from data_loaders.base import encodable, taken
from data_loaders.coco_objects import CocoObjects
from data_loaders.errors import DataError
from data_loaders.images import picture_files
from data_loaders.pictures import (
    PictureSpec,
    picture_below,
    prepared,
    read_picture,
    thumbnail_from_image,
)
from data_loaders.targets import ObjectsTarget
from data_loaders.types import Array, Preview, Sample


class CocoSpec(PictureSpec):
    """Pictures and one JSON of annotations, as COCO has them."""

    kind: Literal["coco"] = "coco"
    images: Path = Field(description="The folder that the annotations' file names are in.")
    annotations: Path = Field(description="The JSON: images, annotations, categories.")


class YoloSpec(PictureSpec):
    """Pictures, and for each a text file of lines `class cx cy w h` in parts of its sides."""

    kind: Literal["yolo"] = "yolo"
    images: Path = Field(description="The folder of pictures.")
    labels: Path = Field(description="The folder of text files of the same names.")
    names: Path | None = Field(
        default=None, description="data.yaml, whose `names` are the classes."
    )


class Coco:
    """The samples of a CocoSpec; classes count from 0 in the order of the categories' ids."""

    def __init__(self, spec: CocoSpec) -> None:
        self.spec = spec
        self.source = str(spec.annotations)
        self._found = CocoObjects(spec.annotations, spec.skip, spec.samples)
        self.class_names = spec.classes or self._found.class_names

    def __iter__(self) -> Iterator[Sample]:
        for picture, name in self._found.names.items():
            path = picture_below(self.spec.images, name, self.spec)
            boxes, classes, crowd, areas = self._found.objects(picture)
            target = _checked(boxes, classes, crowd, areas, self.source)
            yield _sample(path, encodable(name), target, self.spec)


class Yolo:
    """The samples of a YoloSpec; a picture without a text file has no objects."""

    def __init__(self, spec: YoloSpec) -> None:
        self.spec = spec
        self.source = str(spec.images)
        for folder in (spec.images, spec.labels):
            if not folder.is_dir():
                raise DataError(str(folder), "there is no such folder")
        self.class_names = spec.classes or (_names(spec.names) if spec.names else None)

    def __iter__(self) -> Iterator[Sample]:
        within = None if self.spec.links == "anywhere" else self.source
        for path in taken(picture_files(self.spec.images, within), self.spec):
            relative = path.relative_to(self.spec.images)
            labels = self.spec.labels / relative.with_suffix(".txt")
            rows = self._rows(labels) if labels.is_file() else np.zeros((0, 5))
            yield _sample(path, encodable(relative.as_posix()), rows, self.spec)

    def _rows(self, path: Path) -> Array:
        """float64 (objects, 5): class, then the box in parts of the sides."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [[float(v) for v in line.split()[:5]] for line in lines if line.strip()]
            found = np.array(rows, dtype=np.float64).reshape(-1, 5)
        except (OSError, ValueError) as error:
            raise DataError(
                str(path), f"holds something else than boxes: {error}", expected="class cx cy w h"
            ) from error
        many = len(self.class_names or ())
        if len(found) and (found[:, 0].min() < 0 or (many and found[:, 0].max() >= many)):
            raise DataError(
                str(path),
                "a class is none of the names",
                got=str(int(found[:, 0].max())),
                expected=f"0 to {many - 1}",
            )
        return found


def _sample(path: Path, name: str, target: ObjectsTarget | Array, spec: PictureSpec) -> Sample:
    image = read_picture(path)
    seen, array, frame = prepared(image, spec)
    if isinstance(target, np.ndarray):
        sides = np.array([image.width, image.height] * 2)
        centre, half = target[:, 1:3], target[:, 3:5] / 2
        boxes = np.hstack([centre - half, 2 * half]) * sides
        target = _checked(boxes, target[:, 0], np.zeros(len(boxes)), None, str(path))
    return Sample(
        id=name,
        inputs={spec.input_name: array},
        label=target,
        metadata={"objects": _bucket(int((~target.crowd).sum()))},
        preview=Preview(png=thumbnail_from_image(seen)),
        frame=frame,
    )


def _checked(boxes: Array, classes: Any, crowd: Any, areas: Any, where: str) -> ObjectsTarget:
    """Corners of boxes that are given as x, y, width, height."""
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise DataError(where, "a box has no size", got=str(boxes[:1].tolist()))
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    size = np.prod(boxes[:, 2:], axis=1) if areas is None else np.asarray(areas, dtype=np.float64)
    return ObjectsTarget(
        corners, np.asarray(classes, dtype=np.int64), np.asarray(crowd, dtype=bool), size
    )


def _bucket(objects: int) -> str:
    """To slice by: how crowded a picture is."""
    return str(objects) if objects < 2 else "2-5" if objects <= 5 else "6 or more"


def _names(path: Path) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        ordered = [names[k] for k in sorted(names)] if isinstance(names, dict) else list(names)
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(str(path), f"has no names: {error}") from error
    return tuple(encodable(str(name)) for name in ordered)
