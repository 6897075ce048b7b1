"""Pictures with boxes: COCO's JSON, or YOLO's text files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field

from data_loaders.base import encodable, taken
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

_JSON_BYTES_MAX = 4 * 2**30


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
        content = _read_json(spec.annotations)
        categories = sorted(_records(content, "categories", self.source), key=lambda c: c["id"])
        self._class_of = {c["id"]: index for index, c in enumerate(categories)}
        names = tuple(encodable(str(c.get("name", c["id"]))) for c in categories)
        self.class_names = spec.classes or names
        self._images = sorted(_records(content, "images", self.source), key=lambda i: i["id"])
        self._objects: dict[Any, list[Mapping[str, Any]]] = {}
        for found in _records(content, "annotations", self.source, "image_id", "category_id"):
            self._objects.setdefault(found["image_id"], []).append(found)

    def __iter__(self) -> Iterator[Sample]:
        for record in taken(self._images, self.spec):
            name = str(record.get("file_name", ""))
            path = picture_below(self.spec.images, name, self.spec)
            found = self._objects.get(record["id"], [])
            yield _sample(path, encodable(name), self._target(found), self.spec)

    def _target(self, found: list[Mapping[str, Any]]) -> ObjectsTarget:
        try:
            boxes = np.array([f["bbox"] for f in found], dtype=np.float64).reshape(-1, 4)
            classes = [self._class_of[f["category_id"]] for f in found]
            areas = [float(f.get("area", f["bbox"][2] * f["bbox"][3])) for f in found]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                self.source,
                f"an annotation cannot be read: {type(error).__name__}: {error}",
                expected="bbox [x, y, width, height], and a category_id of the categories",
            ) from error
        crowd = [bool(f.get("iscrowd", 0)) for f in found]
        return _checked(boxes, classes, crowd, areas, self.source)


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


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES_MAX:
            raise OSError(f"it has over {_JSON_BYTES_MAX >> 30} GiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(str(path), "there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(str(path), f"cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(str(path), "holds no object", expected="images, annotations, categories")
    return content


def _records(
    content: Mapping[str, Any], name: str, where: str, *keys: str
) -> list[Mapping[str, Any]]:
    found = content.get(name)
    wanted = keys or ("id",)
    if not isinstance(found, list) or not all(
        isinstance(record, dict) and all(key in record for key in wanted) for record in found
    ):
        raise DataError(
            where, f"has no list of {name}", expected=f"objects with {', '.join(wanted)}"
        )
    return found


def _names(path: Path) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        ordered = [names[k] for k in sorted(names)] if isinstance(names, dict) else list(names)
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(str(path), f"has no names: {error}") from error
    return tuple(encodable(str(name)) for name in ordered)
