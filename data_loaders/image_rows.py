"""Pictures that lie in rows: of parquet, of a Hugging Face data set, of WebDataset's archives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from data_loaders.base import encodable, label_from_value
from data_loaders.errors import DataError
from data_loaders.locations import is_remote, local_path
from data_loaders.masks import MaskValues, mask_label
from data_loaders.objects import checked_objects, object_count
from data_loaders.parts import Placed
from data_loaders.pictures import (
    PictureSpec,
    picture_from_bytes,
    prepared,
    read_picture,
    refuse_outer_link,
    thumbnail_from_image,
)
from data_loaders.row_samples import RowSamples, needed
from data_loaders.rows import PythonRowsSpec, RowsSpec, column, rows_source
from data_loaders.targets import Frame, ObjectsTarget
from data_loaders.types import Label, Preview, Sample

_CLASS_FIELDS = ("category", "category_id", "label", "class")


class ImageRowsSpec(PictureSpec, MaskValues):
    """Rows with a picture in a column: its bytes, or Hugging Face's `{bytes, path}`."""

    kind: Literal["image_rows"] = "image_rows"
    rows: RowsSpec = Field(description="Where the rows come from.")
    image_column: str = Field(default="image", description="Column of the picture.")
    label_column: str | None = Field(
        default=None, description="Column of the label: a class, a number, an array."
    )
    text_column: str | None = Field(default=None, description="Column of the text it shows.")
    mask_column: str | None = Field(
        default=None, description="Column of a second picture, whose pixels are numbers of classes."
    )
    objects_column: str | None = Field(
        default=None,
        description="Column of the objects: `bbox` and `category` of each, as Hugging Face's "
        "detection sets have them; `area` and `iscrowd` are read where they are.",
    )
    box_format: Literal["xywh", "xyxy", "yolo"] = Field(
        default="xywh",
        description="Left, top and sides; corners; or centre and sides in parts of the picture's.",
    )
    id_column: str | None = Field(default=None, description="Column of a unique id.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")

    @model_validator(mode="after")
    def _has_one_label(self) -> "ImageRowsSpec":
        given = (self.label_column, self.text_column, self.mask_column, self.objects_column)
        if sum(name is not None for name in given) > 1:
            raise ValueError(
                "give one of label_column, text_column, mask_column and objects_column"
            )
        return self


class ImageRows(RowSamples):
    """The samples of an ImageRowsSpec: float32 (channels, height, width), or as layout says."""

    def __init__(self, spec: ImageRowsSpec) -> None:
        self.spec = spec
        self.class_names = spec.classes
        columns = needed(
            spec.image_column,
            spec.label_column,
            spec.text_column,
            spec.mask_column,
            spec.objects_column,
            spec.id_column,
            spec.slice_columns,
        )
        super().__init__(spec.rows, columns, spec.id_column, rows_source(spec.rows))
        path = "" if isinstance(spec.rows, PythonRowsSpec) else spec.rows.path
        self._path = None if not path or is_remote(path) else local_path(path)

    def _sample(self, placed: Placed) -> Sample:
        spec, row, where = self.spec, placed.row, placed.where
        image = self._picture(placed, spec.image_column, "RGB")
        seen, array, frame = prepared(image, spec)
        label = self._label(placed, frame)
        metadata = {n: encodable(str(column(row, n, where))) for n in spec.slice_columns}
        if isinstance(label, ObjectsTarget):
            metadata["objects"] = object_count(label)
        return Sample(
            id=self._id(placed),
            inputs={spec.input_name: array},
            label=label,
            metadata=metadata,
            preview=Preview(
                text=label if spec.text_column and isinstance(label, str) else None,
                png=thumbnail_from_image(seen),
            ),
            frame=frame,
        )

    def _label(self, placed: Placed, frame: Frame) -> Label | None:
        spec, row, where = self.spec, placed.row, placed.where
        if spec.text_column:
            text = column(row, spec.text_column, where)
            if not isinstance(text, str):
                raise DataError(where, "the text is no text", got=repr(text))
            return encodable(text)
        if spec.mask_column:
            mask = self._picture(placed, spec.mask_column, None)
            return mask_label(mask, frame, spec, spec, f"{where}, {spec.mask_column}")
        if spec.objects_column:
            return _objects(column(row, spec.objects_column, where), spec, frame, where)
        if spec.label_column is None:
            return None
        return label_from_value(column(row, spec.label_column, where), spec.classes, where)

    def _picture(self, placed: Placed, name: str, mode: str | None) -> Image.Image:
        where = f"{placed.where}, {name}"
        value = column(placed.row, name, placed.where)
        path = None
        if isinstance(value, Mapping):
            path, value = value.get("path"), value.get("bytes")
        if isinstance(value, bytes | bytearray | memoryview):
            return picture_from_bytes(bytes(value), where, mode)
        if value is None and isinstance(path, str):
            return read_picture(self._file(path, where), mode)
        raise DataError(
            where,
            "holds no picture",
            got=type(value).__name__,
            expected="bytes of a file, or {bytes, path}",
        )

    def _file(self, path: str, where: str) -> Path:
        """A file that a row names, below the folder that the rows are in."""
        if self._path is None or is_remote(path):
            raise DataError(where, "names a picture and does not hold it", got=path)
        folder = self._path if self._path.is_dir() else self._path.parent
        found = folder / path
        if self.spec.links != "anywhere":
            refuse_outer_link(found, str(folder))
        return found


def _objects(value: Any, spec: ImageRowsSpec, frame: Frame, where: str) -> ObjectsTarget:
    """Objects as a mapping of lists, or as a list of mappings."""
    try:
        fields = value if isinstance(value, Mapping) else _as_lists(value)
        boxes = np.array(list(fields["bbox"]), dtype=np.float64).reshape(-1, 4)
        name = next(name for name in _CLASS_FIELDS if name in fields)
        named = [label_from_value(c, spec.classes, where) for c in _listed(fields[name])]
        classes = np.array(named, dtype=np.int64)
        crowd = np.array(_listed(fields.get("iscrowd", [0] * len(boxes))), dtype=bool)
        areas = fields.get("area")
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        raise DataError(
            where,
            f"its objects cannot be read: {type(error).__name__}: {error}",
            expected=f"bbox, of four numbers each, and one of {', '.join(_CLASS_FIELDS)}",
        ) from error
    if len(classes) != len(boxes) or len(crowd) != len(boxes):
        raise DataError(where, "not every box has a class", got=f"{len(boxes)} and {len(classes)}")
    if spec.box_format == "xyxy":
        boxes[:, 2:] -= boxes[:, :2]
    elif spec.box_format == "yolo":
        boxes[:, :2] -= boxes[:, 2:] / 2
        boxes *= [frame.width, frame.height] * 2
    return checked_objects(boxes, classes, crowd, areas, where)


def _as_lists(objects: Any) -> dict[str, list[Any]]:
    names = {name for found in objects for name in found}
    lists = {name: [found[name] for found in objects] for name in names}
    return lists if objects else {"bbox": [], "category": []}


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
