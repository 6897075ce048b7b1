"""COCO's annotations as compact arrays: what each picture holds, and little else."""

from array import array
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.files import DataFile
from data_loaders.json_lists import place_of, read_lists
from data_loaders.types import Array

_LISTS = {"images": ("id",), "annotations": ("image_id", "category_id"), "categories": ("id",)}
_NUMBERS = 5
"""Of an object: left, top, width, height, area."""


class CocoObjects:
    """The pictures of a COCO file in the order of their ids, and the objects in each.

    The file is read once, record by record. 49 bytes are kept of each object, and the name of each
    picture; outlines are passed over. Where the pictures come before the annotations in the file,
    as they usually do, objects of pictures that are not asked for are passed over too.

    Args:
        source: instances JSON: images, annotations and categories in any order.
        skip: pictures that are left out at the beginning.
        samples: pictures that are taken then; all if absent.

    Raises:
        DataError: if the file cannot be read, or a record lacks what it must have.
    """

    def __init__(self, source: Path | DataFile, skip: int = 0, samples: int | None = None) -> None:
        self._source, self._skip, self._samples = place_of(source), skip, samples
        self._names: dict[Any, str] = {}
        self._classes: dict[Any, str] = {}
        self._pictures: dict[Any, int] = {}
        """The place of a picture's id in `_picture`, as it came up first."""
        self._chosen: dict[Any, str] | None = None
        self._categories: dict[Any, int] = {}
        self._picture, self._category = array("i"), array("i")
        self._crowd, self._numbers = array("b"), array("d")
        found = read_lists(
            source,
            {
                "images": self._add_picture,
                "annotations": self._add_object,
                "categories": self._add_class,
            },
            "images, annotations, categories",
        )
        for name in _LISTS:
            if name not in found:
                raise self._lacks(name)
        self.names = self._taken()
        self._arrange()

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class: the order is that of the categories' ids."""
        return tuple(self._classes[key] for key in self._sorted(self._classes))

    def objects(self, picture: Any) -> tuple[Array, Array, Array, Array]:
        """What a picture holds, in the file's order.

        Args:
            picture: its id.

        Returns:
            float64 (objects, 4): left, top, width, height; int64 (objects,) classes; bool
            (objects,) crowds; float64 (objects,) areas.

        Raises:
            DataError: if an object's category is none of the categories.
        """
        place = self._pictures.get(picture, -1)
        own = slice(*(self._ends[place : place + 2] if place >= 0 else (0, 0)))
        classes = self._class_of[self._kinds[own]]
        if (classes < 0).any():
            raise self._unreadable("KeyError: a category_id that is none of the categories")
        return self._boxes[own, :4], classes, self._crowds[own], self._boxes[own, 4]

    def _add_picture(self, record: Any) -> None:
        key = self._checked("images", record)["id"]
        self._chosen = None
        self._names[key] = str(record.get("file_name", ""))

    def _add_class(self, record: Any) -> None:
        key = self._checked("categories", record)["id"]
        self._classes[key] = encodable(str(record.get("name", key)))

    def _add_object(self, record: Any) -> None:
        found = self._checked("annotations", record)
        key, category = found["image_id"], found["category_id"]
        if self._names and key not in self._taken():
            return
        try:
            left, top, width, height = map(float, found["bbox"])
            area = float(found.get("area", width * height))
            crowd = bool(found.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error
        self._picture.append(self._pictures.setdefault(key, len(self._pictures)))
        self._category.append(self._categories.setdefault(category, len(self._categories)))
        self._crowd.append(crowd)
        self._numbers.extend((left, top, width, height, area))

    def _taken(self) -> dict[Any, str]:
        """The names of the pictures that are asked for, by id, in the order of the ids."""
        if self._chosen is None:
            stop = None if self._samples is None else self._skip + self._samples
            order = self._sorted(self._names)
            self._chosen = {key: self._names[key] for key in islice(order, self._skip, stop)}
        return self._chosen

    def _arrange(self) -> None:
        """Objects picture by picture, in arrays."""
        picture = np.frombuffer(self._picture, dtype=np.int32)
        order = np.argsort(picture, kind="stable")
        count = np.bincount(picture, minlength=len(self._pictures))
        self._ends = np.concatenate([[0], np.cumsum(count)])
        self._kinds = np.frombuffer(self._category, dtype=np.int32)[order]
        self._crowds = np.frombuffer(self._crowd, dtype=np.int8)[order] > 0
        self._boxes = np.frombuffer(self._numbers, dtype=np.float64).reshape(-1, _NUMBERS)[order]
        place = {key: index for index, key in enumerate(self._sorted(self._classes))}
        self._class_of = np.array([place.get(key, -1) for key in self._categories] or [-1])
        self._picture, self._category = array("i"), array("i")
        self._crowd, self._numbers = array("b"), array("d")

    def _sorted(self, keys: Mapping[Any, Any]) -> list[Any]:
        try:
            return sorted(keys)
        except TypeError as error:
            raise DataError(
                self._source, f"ids cannot be put into an order: {error}", expected="numbers"
            ) from error

    def _checked(self, name: str, record: Any) -> Mapping[str, Any]:
        wanted = _LISTS[name]
        keys = isinstance(record, dict) and all(key in record for key in wanted)
        if not keys or any(isinstance(record[key], list | dict) for key in wanted):
            raise self._lacks(name)
        known: Mapping[str, Any] = record
        return known

    def _lacks(self, name: str) -> DataError:
        return DataError(
            self._source,
            f"has no list of {name}",
            expected=f"objects with {', '.join(_LISTS[name])}",
        )

    def _unreadable(self, problem: str) -> DataError:
        return DataError(
            self._source,
            f"an annotation cannot be read: {problem}",
            expected="bbox [x, y, width, height], and a category_id of the categories",
        )
